//go:build !linux || !(amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// errSystem is what Listen and Dial say where the kernel is another.
var errSystem = fmt.Errorf("ipc: needs Linux on amd64 or arm64, not %s on %s: %w: nothing was started or attached", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)

func listen(context.Context, string, *Options) (*Endpoint, error) { return nil, errSystem }
func dial(context.Context, string, *Options) (*Endpoint, error)   { return nil, errSystem }
func redial(context.Context, string, *Options) (*Endpoint, error) { return nil, errSystem }
func isNobody(uint32) bool                                        { return false }

// No endpoint exists here, so none of these is ever called.
func (s *segment) unmap()                                                      {}
func (s *segment) dump()                                                       {}
func futexSleep(*atomic.Uint32, uint32, *atomic.Uint32, uint32, time.Duration) {}
func futexWakeShared(*atomic.Uint32)                                           {}
func futexWakePrivate(*atomic.Uint32)                                          {}
func needsRepeatedWake() bool                                                  { return false }
func yieldProcessor()                                                          {}
