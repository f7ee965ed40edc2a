package chaos

import "time"

// ErrnoOptions says how much [FailedSystemCalls] does.
type ErrnoOptions struct {
	// Budget is how long it may take: failures are drawn until it is spent.
	// 0 makes every call fail in every way.
	Budget time.Duration

	// Seed draws the failures.
	Seed uint64

	// Only, if not empty, is one failure, as a report names it:
	// side/call/occurrence/errno.
	Only string
}

const errnoLayer = "errnos"
