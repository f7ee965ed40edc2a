module github.com/tandem-ipc/tandem

go 1.24.0

require (
	github.com/cenkalti/backoff/v5 v5.0.3
	github.com/schollz/progressbar/v3 v3.18.0
	golang.org/x/net v0.50.0
	golang.org/x/sys v0.41.0
	pgregory.net/rapid v1.3.0
)

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	golang.org/x/term v0.40.0 // indirect
)
