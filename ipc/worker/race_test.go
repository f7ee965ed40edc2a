//go:build race && linux && (amd64 || arm64)

package worker

func init() { underRace = true }
