module github.com/tandem-ipc/tandem/integrations/grpc/examples

go 1.25.0

require (
	github.com/tandem-ipc/tandem v0.0.0
	github.com/tandem-ipc/tandem/integrations/grpc v0.0.0
	go.yaml.in/yaml/v3 v3.0.6
	google.golang.org/grpc v1.80.0
	google.golang.org/grpc/examples v0.0.0-20250407062114-b368379ef8f6
	google.golang.org/protobuf v1.36.11
)

require (
	golang.org/x/net v0.50.0 // indirect
	golang.org/x/sys v0.41.0 // indirect
	golang.org/x/text v0.36.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260120221211-b8f7ae30c516 // indirect
)

replace (
	github.com/tandem-ipc/tandem => ../../..
	github.com/tandem-ipc/tandem/integrations/grpc => ..
)
