//go:build linux

package peers

import "github.com/tandem-ipc/tandem/internal/measure"

// Transports are the contenders of this package and of measure.
func Transports() []*measure.Transport {
	return append(measure.Transports(), overGRPC(), overGRPCStream(), overPlugin(), zeromq(), flip())
}
