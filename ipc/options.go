package ipc

import (
	"fmt"
	"math/bits"
	"os"
	"slices"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// NoSpin as Options.Spin makes every wait sleep at once.
const NoSpin = -1 * time.Nanosecond

// Limits and defaults of Options. Ring sizes are bytes and powers of two; the
// smallest is one memory page.
const (
	DefaultRingSize          = 1 << 20
	MaxRingSize              = 1 << 30
	DefaultHeartbeatInterval = 100 * time.Millisecond
	DefaultHangTimeout       = time.Second
	DefaultHandshakeTimeout  = 5 * time.Second
	DefaultCloseTimeout      = 2 * time.Second
)

func init() {
	step.Provide(func(options any, start uint64, hook step.Hook) {
		o, all := options.(*Options), positions{start, start, start}
		o.hook, o.start.server, o.start.client = hook, all, all
	})
}

// Options configures Listen and Dial. The zero value, and nil, mean the
// defaults. An Options is read once, by the call that is given it, and never changed.
type Options struct {
	// ToServerSize and ToClientSize are the ring sizes in bytes, each a power
	// of two between one page and MaxRingSize; DefaultRingSize if 0. The
	// server decides, and Dial ignores them.
	ToServerSize, ToClientSize int

	// Spin is how long a wait watches the peer's position before it sleeps in
	// the kernel. 0 adapts it to what has paid off lately, up to about the cost
	// of a wake-up, and sleeps at once if this process and the peer's are bound to the same
	// processor when they attach; NoSpin always sleeps at once.
	Spin time.Duration

	// HeartbeatInterval is the time between two beats, and the longest that a
	// sleep goes without looking again, at least a millisecond;
	// DefaultHeartbeatInterval if 0.
	HeartbeatInterval time.Duration

	// HangTimeout is the silence after which a peer is called hung, at least
	// three heartbeats; DefaultHangTimeout, or ten heartbeats if that is more,
	// if 0. A peer that beats less often, as it says itself when it attaches, is
	// given three of its own heartbeats.
	HangTimeout time.Duration

	// StallTimeout is how long an attached peer may beat, and take and release nothing,
	// while messages wait for it, or a Flush or a sender here waits for its releases,
	// before EventStalled tells of it; off if 0. It is looked at twice in a heartbeat.
	StallTimeout time.Duration

	// FailOnHang makes calls that wait for a hung peer return ErrPeerHung.
	FailOnHang bool

	// HandshakeTimeout bounds one handshake; DefaultHandshakeTimeout if 0.
	HandshakeTimeout time.Duration

	// CloseTimeout bounds how long a server's Close waits for the client to
	// leave, and how long KillOrphan gives an orphan to leave by itself;
	// DefaultCloseTimeout if 0.
	CloseTimeout time.Duration

	// Wait makes Listen and Dial wait, until their context ends, for a running
	// server or client to leave instead of failing.
	Wait bool

	// FailFast makes Dial and Redial fail at once with ErrNoServer if no server listens
	// on the path, instead of waiting for one.
	FailFast bool

	// KillOrphan lets Listen kill a client that has outlived its server and
	// does not leave within CloseTimeout. The kill is by pidfd, and hits only the
	// process that the lock file names and that provably holds the token; else
	// Listen fails, and its error says what is not proven. Who may not look into
	// that process, because it is another user's or not dumpable, kills nobody.
	KillOrphan bool

	// KillOnClose lets a server's Close kill a client that does not leave
	// within CloseTimeout.
	KillOnClose bool

	// AllowUIDs lists the users that may attach to a server; only the
	// server's own effective user if empty. A list is the whole of them: it leaves
	// out the server's own user, and root, unless it names them.
	AllowUIDs []uint32

	// ServerUIDs lists the users that Dial takes a server from; the client's own
	// effective user and root if empty. A list is the whole of them here too.
	ServerUIDs []uint32

	// SharedDirectory lets Listen use a directory that others can write: every user,
	// also with the sticky bit, or the owner, if that is neither this user nor root.
	// They can put another socket at the path, and delete the lock file. Without it
	// Listen fails; with it EventInsecureDirectory says who they are.
	SharedDirectory bool

	// DumpRings puts the rings into this process's core dumps, each twice, with what
	// the messages say. Without it they are left out, as far as the kernel can.
	DumpRings bool

	hook step.Hook // nil, but for tests: see step.Watched

	// start is where the positions of a new generation begin: 0, but for tests
	// that want to see them wrap.
	start struct{ server, client positions }
}

// check reports the first option that makes no sense.
func (o *Options) check() error {
	if o == nil {
		return nil
	}
	for _, ring := range []struct {
		name string
		size int
	}{{"ToServerSize", o.ToServerSize}, {"ToClientSize", o.ToClientSize}} {
		if ring.size == 0 {
			continue
		}
		if page := os.Getpagesize(); ring.size < page || ring.size > MaxRingSize || bits.OnesCount(uint(ring.size)) != 1 {
			return fmt.Errorf("ipc: %s is %d: want a power of two from %d to %d", ring.name, ring.size, page, MaxRingSize)
		}
	}
	if o.Spin < 0 && o.Spin != NoSpin {
		return fmt.Errorf("ipc: Spin is %v: want 0, NoSpin or a positive duration", o.Spin)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"HeartbeatInterval", o.HeartbeatInterval}, {"HangTimeout", o.HangTimeout}, {"StallTimeout", o.StallTimeout},
		{"HandshakeTimeout", o.HandshakeTimeout}, {"CloseTimeout", o.CloseTimeout},
	} {
		if d.value < 0 {
			return fmt.Errorf("ipc: %s is negative, %v: want a positive duration, or 0 for the default", d.name, d.value)
		}
	}
	if o.heartbeatInterval() < time.Millisecond {
		return fmt.Errorf("ipc: HeartbeatInterval is %v: want at least a millisecond: it would cost more than it tells", o.HeartbeatInterval)
	}
	if o.hangTimeout() < 3*o.heartbeatInterval() {
		return fmt.Errorf("ipc: HangTimeout %v is less than three heartbeats of %v: a live peer would be called hung",
			o.hangTimeout(), o.heartbeatInterval())
	}
	return nil
}

func orDefault[T int | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

func (o *Options) get() Options {
	if o == nil {
		return Options{}
	}
	return *o
}

// read is the one reading of the caller's options: what those change later, a list of
// users too, changes nothing here.
func (o *Options) read() *Options {
	v := o.get()
	v.AllowUIDs, v.ServerUIDs = slices.Clone(v.AllowUIDs), slices.Clone(v.ServerUIDs)
	return &v
}

func (o *Options) toServerSize() int { return orDefault(o.get().ToServerSize, DefaultRingSize) }
func (o *Options) toClientSize() int { return orDefault(o.get().ToClientSize, DefaultRingSize) }

func (o *Options) heartbeatInterval() time.Duration {
	return orDefault(o.get().HeartbeatInterval, DefaultHeartbeatInterval)
}

func (o *Options) hangTimeout() time.Duration {
	return orDefault(o.get().HangTimeout, max(DefaultHangTimeout, 10*o.heartbeatInterval()))
}

func (o *Options) handshakeTimeout() time.Duration {
	return orDefault(o.get().HandshakeTimeout, DefaultHandshakeTimeout)
}

func (o *Options) closeTimeout() time.Duration {
	return orDefault(o.get().CloseTimeout, DefaultCloseTimeout)
}

// allows reports whether a process of the given user may attach.
func (o *Options) allows(uid uint32) bool {
	return isListed(uid, o.get().AllowUIDs, uint32(os.Geteuid()))
}

// trusts reports whether a server may be the given user's.
func (o *Options) trusts(uid uint32) bool {
	return isListed(uid, o.get().ServerUIDs, uint32(os.Geteuid()), 0)
}

// isListed reports whether the list, or the default if it is empty, has a user
// that is somebody here.
func isListed(uid uint32, list []uint32, byDefault ...uint32) bool {
	if len(list) == 0 {
		list = byDefault
	}
	return slices.Contains(list, uid) && !isNobody(uid)
}

// String prints the options in force, defaults filled in.
func (o *Options) String() string {
	v := o.get()
	return fmt.Sprintf("toServer=%d toClient=%d spin=%v heartbeat=%v hang=%v stall=%v failOnHang=%t handshake=%v close=%v wait=%t failFast=%t killOrphan=%t killOnClose=%t sharedDirectory=%t dumpRings=%t uids=%v servers=%v",
		o.toServerSize(), o.toClientSize(), v.Spin, o.heartbeatInterval(), o.hangTimeout(), v.StallTimeout, v.FailOnHang,
		o.handshakeTimeout(), o.closeTimeout(), v.Wait, v.FailFast, v.KillOrphan, v.KillOnClose, v.SharedDirectory, v.DumpRings, v.AllowUIDs, v.ServerUIDs)
}
