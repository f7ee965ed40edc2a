//go:build !linux

package chaos

import (
	"context"
	"errors"
)

// Enumerate needs Linux.
func Enumerate(context.Context, EnumerateOptions) (*Report, error) { return nil, errors.ErrUnsupported }

// Forked needs Linux.
func Forked(context.Context, ForkedOptions) (*Report, error) { return nil, errors.ErrUnsupported }

// PlayAgain needs Linux.
func PlayAgain(context.Context, string) (*Report, error) { return nil, errors.ErrUnsupported }
