//go:build !linux

// Bench is the evaluation. Package ipc, and so the evaluation, works on Linux only.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	fmt.Fprintf(os.Stderr, "bench: %v\n", errors.ErrUnsupported)
	os.Exit(1)
}
