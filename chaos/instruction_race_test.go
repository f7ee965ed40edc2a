//go:build race

package chaos

func init() { instrumented = true }
