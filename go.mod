module github.com/tandem-ipc/tandem

go 1.26.0

require (
	github.com/schollz/progressbar/v3 v3.19.1
	golang.org/x/sys v0.49.0
	pgregory.net/rapid v1.3.0
)
