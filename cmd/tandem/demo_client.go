package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"

	"github.com/tandem-ipc/tandem/ipc"
)

// exitWithInput ends this process when its standard input ends, which is when
// the orchestrator has gone, whatever it died of. A parent-death signal would
// not do: it comes when the parent's thread ends, and Go's threads do.
func exitWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(exitFailed)
}

// leaveInterruptsToTheOrchestrator keeps Ctrl-C, which a terminal sends to all
// processes of the demo, from ending more than the one that ends the others.
func leaveInterruptsToTheOrchestrator() { signal.Ignore(os.Interrupt) }

// playClient is the client's process: it answers each message with the SHA-256
// of its data, until the server ends.
func playClient(args []string, _, stderr io.Writer) int {
	if len(args) != 2 {
		fmt.Fprintf(stderr, "tandem: %s is a part of tandem demo, and is started by it\n", clientPart)
		return exitUsage
	}
	leaveInterruptsToTheOrchestrator()
	go exitWithInput()
	if err := answerMessages(args[0], args[1]); err != nil {
		fmt.Fprintf(stderr, "tandem %s: %v\n", clientPart, err)
		return exitFailed
	}
	return exitOK
}

func answerMessages(path, generation string) error {
	expected, err := strconv.ParseUint(generation, 10, 64)
	if err != nil {
		return err
	}
	fault, err := plantedFault(os.Getenv(faultVariable))
	if err != nil {
		return err
	}
	ctx := context.Background()
	e, err := ipc.Dial(ctx, path, &ipc.Options{Wait: true})
	if err != nil {
		return err
	}
	defer e.Close()
	if e.Generation() != expected {
		return nil // the server that started this client is dead, and its successor starts its own
	}
	for m, err := range e.Messages(ctx) {
		if errors.Is(err, ipc.ErrPeerClosed) || errors.Is(err, ipc.ErrPeerDied) {
			return nil // no more work from this server; its successor can start when this process has left
		}
		if err != nil {
			return err
		}
		a := answer{digest: sha256.Sum256(m.Data), attachment: e.Attachment(), redelivered: m.Redelivered}
		send := func(kind uint32, a answer) error { return e.Send(ctx, kind, a.bytes()) }
		// First the answer, then the release: a client that dies between the
		// two gets the message again, marked, and answers it twice. The other
		// way round the message would be gone, and its answer never come.
		if err := fault.answer(m.Kind, a, send); errors.Is(err, ipc.ErrPeerDied) || errors.Is(err, ipc.ErrPeerClosed) {
			return nil
		} else if err != nil {
			return err
		}
		if err := m.Release(); err != nil {
			return err
		}
	}
	return nil
}
