//go:build !linux

package chaos

import (
	"context"
	"errors"
	"fmt"
)

// Campaign needs Linux.
func Campaign(context.Context, CampaignOptions) (*Report, error) {
	return nil, fmt.Errorf("chaos: campaign: %w", errors.ErrUnsupported)
}

// Replay needs Linux.
func Replay(context.Context, string, string) (*Report, error) {
	return nil, fmt.Errorf("chaos: replay: %w", errors.ErrUnsupported)
}
