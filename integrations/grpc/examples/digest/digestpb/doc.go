// Package digestpb is the service of the example, as protoc has made it.
package digestpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative digest.proto
