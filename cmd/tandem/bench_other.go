//go:build !linux

package main

import (
	"errors"
	"fmt"
	"io"
)

// driverPart is the command line of one side of what is measured.
const driverPart = "bench-driver"

// bench says that there is nothing to measure: package ipc works on Linux only.
func bench(_ []string, _, stderr io.Writer) int {
	fmt.Fprintf(stderr, "tandem bench: %v\n", errors.ErrUnsupported)
	return exitFailed
}

func playDriver([]string, io.Writer, io.Writer) int { return exitFailed }
