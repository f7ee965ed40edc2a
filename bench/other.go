//go:build !linux

package main

// Package ipc, and so its evaluation, works on Linux only.

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	fmt.Fprintf(os.Stderr, "bench: %v\n", errors.ErrUnsupported)
	os.Exit(1)
}
