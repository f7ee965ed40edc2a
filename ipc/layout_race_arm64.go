//go:build race

package ipc

// swapsPublish reports whether a swap orders what was stored before it. Built with
// -race for arm64, one of memory that is not Go's own does not.
const swapsPublish = false
