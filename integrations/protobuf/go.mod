module github.com/tandem-ipc/tandem/integrations/protobuf

go 1.25.0

require (
	github.com/tandem-ipc/tandem v0.0.0
	google.golang.org/protobuf v1.36.11
)

require (
	github.com/cenkalti/backoff/v5 v5.0.3 // indirect
	golang.org/x/sys v0.41.0 // indirect
)

replace github.com/tandem-ipc/tandem => ../..
