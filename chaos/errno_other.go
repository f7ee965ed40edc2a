//go:build !linux || !(amd64 || arm64)

package chaos

import "context"

// FailedSystemCalls does nothing where package ipc does not work: its report is
// Void.
func FailedSystemCalls(_ context.Context, o ErrnoOptions) *Report {
	report := NewReport(errnoLayer, o.Seed)
	report.Note("skipped: it traces processes of Linux on amd64 and arm64")
	return report.Finish(1)
}
