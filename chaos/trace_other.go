//go:build !linux

package chaos

import (
	"context"
	"errors"
)

// Traces needs Linux.
func Traces(context.Context, TraceOptions) (*Report, error) { return nil, errors.ErrUnsupported }
