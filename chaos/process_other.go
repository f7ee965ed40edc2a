//go:build !linux

package chaos

// Main returns at once: there are no parts to play where package ipc does not
// work.
func Main() {}
