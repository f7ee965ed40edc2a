package conn

import (
	"fmt"
	"slices"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Defaults and limits of Options.
const (
	DefaultWindowSize = 256 << 10
	MaxWindowSize     = 1 << 30
	DefaultConnLimit  = 256
	MaxConnLimit      = 1 << 20
)

// Options configures Listen and NewDialer. The zero value, and nil, mean the
// defaults. An Options is read once, by the call that is given it, and never changed.
type Options struct {
	// IPC configures the pair; nil means its defaults. FailOnHang has no effect.
	IPC *ipc.Options

	// WindowSize is how many bytes a connection holds that have come and are not
	// read yet, at this side; DefaultWindowSize if 0. The peer's Write blocks when
	// they are there.
	WindowSize int

	// ConnLimit is how many connections a Listener has at a time, with those that
	// are not accepted yet; DefaultConnLimit if 0. Dial waits while there are as many.
	// A Dialer ignores it.
	ConnLimit int
}

func (o *Options) check() error {
	switch {
	case o == nil:
	case o.WindowSize < 0 || o.WindowSize > MaxWindowSize:
		return fmt.Errorf("conn: WindowSize %d is not between 0 and %d", o.WindowSize, MaxWindowSize)
	case o.ConnLimit < 0 || o.ConnLimit > MaxConnLimit:
		return fmt.Errorf("conn: ConnLimit %d is not between 0 and %d", o.ConnLimit, MaxConnLimit)
	}
	return nil
}

func (o *Options) windowSize() int {
	if o == nil || o.WindowSize == 0 {
		return DefaultWindowSize
	}
	return o.WindowSize
}

func (o *Options) connLimit() int {
	if o == nil || o.ConnLimit == 0 {
		return DefaultConnLimit
	}
	return o.ConnLimit
}

// A settings is what was read of Options: what the caller changes later, a list of users
// too, changes nothing in it.
type settings struct {
	ipc *ipc.Options
	own hello
}

// patience is how long a Listener that is closed waits for a client that takes nothing:
// as long as the endpoint waits for it to leave.
func (s settings) patience() time.Duration {
	if s.ipc == nil || s.ipc.CloseTimeout == 0 {
		return ipc.DefaultCloseTimeout
	}
	return s.ipc.CloseTimeout
}

// read is the one reading of the caller's options. A hang ends no wait here: the loop
// that receives would only ask again.
func (o *Options) read() (settings, error) {
	if err := o.check(); err != nil {
		return settings{}, err
	}
	options := ipc.Options{}
	if o != nil && o.IPC != nil {
		options = *o.IPC
	}
	options.AllowUIDs, options.ServerUIDs = slices.Clone(options.AllowUIDs), slices.Clone(options.ServerUIDs)
	options.FailOnHang = false
	return settings{&options, hello{o.windowSize(), o.connLimit()}}, nil
}
