//go:build !linux || !(amd64 || arm64)

package chaos

import "context"

// SystemCallKills does nothing where package ipc does not work: its report is
// Void.
func SystemCallKills(_ context.Context, o InstructionOptions) *Report {
	report := NewReport(boundaryLayer, o.Seed)
	report.Note("skipped: it traces processes of Linux on amd64 and arm64")
	return report.Finish(1)
}
