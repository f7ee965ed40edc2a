// Digest is a service with workers, on one machine or on many: only the addresses on
// the command line differ.
//
//	digest serve -listen tandem:/run/digest/0          a worker on this machine
//	digest serve -listen :9000                         a worker for other machines
//	digest front -workers tandem:/run/digest/0         answers POST over HTTP, by a worker
//	digest front -workers dns:///digest-worker:9000
//
// The folder deploy has units for systemd and manifests for Kubernetes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	start, err := parse(os.Args[1:])
	if err == nil {
		err = start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "digest:", err)
		os.Exit(1)
	}
}

// parse returns what the arguments ask for. It runs until its context ends.
func parse(arguments []string) (start func(context.Context) error, err error) {
	command := ""
	if len(arguments) > 0 {
		command, arguments = arguments[0], arguments[1:]
	}
	flags := flag.NewFlagSet("digest "+command, flag.ContinueOnError)
	var files remote
	flags.StringVar(&files.certificate, "cert", "", "the certificate for connections between machines, a file")
	flags.StringVar(&files.key, "key", "", "its key, a file")
	flags.StringVar(&files.authority, "ca", "", "whose certificates the other side may have, a file")
	switch command {
	case "serve":
		listen := flags.String("listen", "tandem:/run/digest/0", "tandem:PATH, unix:PATH or HOST:PORT")
		name := flags.String("name", "", "what answers say who has answered; the address if empty")
		start = func(ctx context.Context) error { return serve(ctx, *listen, *name, files) }
	case "front":
		workers := flags.String("workers", "tandem:/run/digest/0", "the target: tandem:PATH,PATH or dns:///HOST:PORT")
		listen := flags.String("http", "localhost:8080", "where to listen for HTTP")
		start = func(ctx context.Context) error { return front(ctx, *listen, *workers, files) }
	default:
		return nil, fmt.Errorf("want serve or front, and not %q", command)
	}
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%s takes no %q", command, flags.Args())
	}
	return start, nil
}
