//go:build !linux

package main

import "runtime"

// The layers say themselves that they need Linux; a saved run can be judged
// anywhere.

func kernel() string { return runtime.GOOS }

func processor() string { return "" }
