package chaos

import "time"

// InstructionOptions says how much [Instructions] does.
type InstructionOptions struct {
	// Budget is how long it may take: crash points are drawn until it is
	// spent. 0 crashes at every instruction of the hot path and of the reattach,
	// and at every one of package ipc where somebody sleeps; less is a failure.
	Budget time.Duration

	// Seed draws the crash points.
	Seed uint64

	// Only, if not empty, is one crash point, as a failure names it,
	// victim/operation/place, or without the place all of that operation.
	Only string
}

const (
	instructionLayer = "instructions"
	boundaryLayer    = "syscalls"
)
