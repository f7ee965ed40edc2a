//go:build !(race && arm64)

package ipc

// swapsPublish reports whether a swap orders what was stored before it.
const swapsPublish = true
