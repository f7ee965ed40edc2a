//go:build race

package tla

func init() { underRace = true }
