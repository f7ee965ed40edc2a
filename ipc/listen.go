//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// listen is Listen. The server lock is held from here to the end of Close, the
// token of the latest attachment while no client must exist.
func listen(ctx context.Context, path string, o *Options) (*Endpoint, error) {
	if err := checkEnded(ctx, "listen on", path); err != nil {
		return nil, err
	}
	e := newEndpoint(RoleServer, path, o)
	s := &server{e: e, listener: -1}
	e.life = s
	if err := s.startWithin(ctx); err != nil {
		return nil, advise(err)
	}
	s.serve()
	return e, nil
}

// advise adds what to do about a lack that any system call may meet.
func advise(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w: close files, or raise RLIMIT_NOFILE", err)
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: the whole system is out of files: raise fs.file-max", err)
	case errors.Is(err, unix.ETOOMANYREFS):
		return fmt.Errorf("%w: more descriptors of this user are on their way through sockets than RLIMIT_NOFILE allows: have them received, or raise it", err)
	}
	return nameSandbox(err)
}

// start takes Listen from nothing to the listening socket.
func (s *server) start(ctx context.Context) error {
	s.e.hook(step.ListenBegun, 0)
	if s.parted.Load() {
		return errParted
	}
	if err := s.checkDirectory(); err != nil {
		return err
	}
	if _, err := lookAt(s.e.path); errors.Is(err, ErrForeign) {
		return err // before a file is made beside it
	}
	lock, err := openLockFile(ctx, s.e.path)
	if err != nil {
		return err
	}
	s.lock = lock
	s.e.hook(step.LockFileOpened, 0)
	if err := s.lockServer(ctx); err != nil {
		return err
	}
	if err := s.lockToken(ctx); err != nil {
		return err
	}
	stale, err := probeStale(s.e.path)
	if err != nil {
		return err
	}
	s.e.hook(step.StaleProbed, 0)
	record, err := s.lock.read()
	if err != nil {
		return err
	}
	s.e.generation = record.nextGeneration()
	if err := s.lock.write(lockRecord{generation: s.e.generation, server: self()}); err != nil {
		return err
	}
	s.e.hook(step.GenerationRecorded, s.e.generation)
	if err := s.makeMemory(ctx); err != nil {
		return err
	}
	if s.parted.Load() {
		return errParted
	}
	if err := s.bind(stale); err != nil {
		return err
	}
	if err := s.retireToken(); err != nil {
		return err
	}
	s.e.hook(step.TokenReturned, 0)
	return nil
}

// self is this process as the lock file records it.
func self() owner { return owner{pid: os.Getpid(), start: startTime(os.Getpid()), in: here()} }

// lockServer takes byte 0, and says who holds it else.
func (s *server) lockServer(ctx context.Context) error {
	if err := s.acquire(ctx, s.lock.tryLock, s.lock.server, s.serverRunning); err != nil {
		return err
	}
	record, err := s.lock.read()
	if err == nil {
		err = s.lock.heal()
	}
	if err != nil {
		return err
	}
	record.server = self()
	if err := s.lock.write(record); err != nil {
		return err
	}
	s.e.hook(step.ServerLocked, 0)
	return nil
}

// lockToken takes the token of the latest attachment: no client of any generation
// lives. One that has outlived its server and does not leave is killed if that is
// wanted (C6).
func (s *server) lockToken(ctx context.Context) error {
	var err error
	if s.token, err = openTokenFile(ctx, s.e.path); err != nil {
		return err
	}
	if s.e.options.KillOrphan {
		err = s.killOrphan(ctx)
	} else {
		err = s.acquire(ctx, s.token.tryLock, s.lock.client, s.clientRunning)
	}
	if err == nil {
		s.e.hook(step.TokenLocked, 0)
	}
	return err
}

// killOrphan takes the token when the orphan has left, and kills it if it does
// not leave by itself.
func (s *server) killOrphan(ctx context.Context) error {
	limit := s.e.options.closeTimeout()
	err := poll(ctx, limit, s.token.tryLock)
	if errors.Is(err, errStillTaken) {
		_, client := s.lock.holders()
		if killErr := client.kill(s.token); killErr != nil {
			return fmt.Errorf("%w: %w", s.clientRunning(ctx), killErr)
		}
		// Somebody may have a copy of the token besides.
		err = poll(ctx, max(limit, time.Second), s.token.tryLock)
	}
	switch {
	case errors.Is(err, errStillTaken):
		return s.clientRunning(ctx) // the bound was ours, and not the caller's
	case err != nil && ctx.Err() != nil:
		return inVain(err, s.clientRunning(ctx))
	}
	return err
}

// inVain is the error of a wait for a lock that ctx has ended.
func inVain(err, why error) error {
	return fmt.Errorf("ipc: listen: %w: nothing was started: %w", err, why)
}

// acquire takes a lock, at once or, with Options.Wait, when it is free. If the process that
// the lock file names as its owner has ended, it waits for copyGrace all the same.
func (s *server) acquire(ctx context.Context, tryLock func() (bool, error), named func() owner, failure func(context.Context) error) error {
	ok, err := tryLock()
	switch {
	case err != nil || ok:
		return err
	case !s.e.options.Wait && named().fate() != fateEnded:
		return failure(ctx)
	case !s.e.options.Wait:
		err := poll(ctx, copyGrace, tryLock)
		if errors.Is(err, errStillTaken) || ctx.Err() != nil && err != nil {
			return failure(ctx)
		}
		return err
	}
	if err := poll(ctx, noLimit, tryLock); err != nil {
		return inVain(err, failure(ctx))
	}
	return nil
}

// noLimit is for a wait that ctx alone ends.
const noLimit = time.Duration(math.MaxInt64)

var errStillTaken = errors.New("the lock is still taken")

// poll tries to take a lock until it is free, ctx ends, or the limit is over, which
// gives errStillTaken. The kernel's own wait could not be cancelled. A context with the
// limit would be watched by a goroutine of package context, in which a panic of the
// caller's context could not be recovered (T4).
func poll(ctx context.Context, limit time.Duration, tryLock func() (bool, error)) error {
	begun := time.Now()
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		if ok, err := tryLock(); ok || err != nil {
			return err
		}
		left := limit - time.Since(begun)
		if left <= 0 {
			return errStillTaken
		}
		if err := pause(ctx, min(wait, left)); err != nil {
			return err
		}
	}
}

// makeMemory makes both segments of this generation. Fresh memory is what keeps
// an older generation's writers out (L4).
func (s *server) makeMemory(ctx context.Context) error {
	e := s.e
	if err := (machine{}).fits(segmentSize(uint64(e.options.toClientSize())) + segmentSize(uint64(e.options.toServerSize()))); err != nil {
		return err
	}
	var made []*segment
	defer func() { // also if the hook panics
		for _, segment := range made {
			segment.release()
		}
	}()
	own, err := newSegment(RoleServer, e.generation, uint64(e.options.toClientSize()), e.options.start.server, ctx.Err)
	if err != nil {
		return err
	}
	made = append(made, own)
	e.hook(step.ServerSegmentMade, 0)
	peer, err := newSegment(RoleClient, e.generation, uint64(e.options.toServerSize()), e.options.start.client, ctx.Err)
	if err != nil {
		return err
	}
	made = append(made, peer)
	e.hook(step.ClientSegmentMade, 0)
	made = nil // join has them
	return e.join(own, peer)
}

// abandon undoes a Listen that failed.
func (s *server) abandon() {
	if s.listener >= 0 {
		closeListener(s.listener)
	}
	if s.e.own != nil {
		s.e.out.peer.release()
		s.e.in.peer.release()
		s.e.peer.release()
		s.e.own.release()
	}
	if s.token != nil {
		s.token.close()
	}
	if s.lock != nil {
		s.lock.close()
	}
}
