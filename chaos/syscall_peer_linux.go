//go:build amd64 || arm64

package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// The kinds of messages of a conversation: the client asks, the server answers,
// the client takes its leave and closes.
const (
	kindAsk = 1 + iota
	kindAnswer
	kindLeave
)

// lively is how processes of the life cycle's layers run: on default terms, but
// small, and waiting for nobody for long.
func lively() *ipc.Options {
	return &ipc.Options{
		ToServerSize: instructionRing, ToClientSize: instructionRing, Wait: true,
		HandshakeTimeout: 2 * time.Second, CloseTimeout: 2 * time.Second,
	}
}

// converse is a client's whole conversation, over again as long as its servers
// end; any other error ends it.
func converse(ctx context.Context, path string, lane uint16) error {
	for {
		err := converseOnce(ctx, path, lane)
		if !errors.Is(err, ipc.ErrPeerDied) && !errors.Is(err, ipc.ErrPeerClosed) {
			return err
		}
	}
}

func converseOnce(ctx context.Context, path string, lane uint16) (err error) {
	e, err := ipc.Dial(ctx, path, lively())
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() {
		if closeErr := e.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close of the client: %w", closeErr)
		}
	}()
	id := ID{uint32(e.Generation()), lane, uint32(e.Attachment())}
	if err := e.Send(ctx, kindAsk, messageOf(id, wordMessage)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	buffer := make([]byte, wordMessage)
	for {
		m, err := e.ReceiveInto(ctx, buffer)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		answer, damage := idOf(m.Data)
		switch {
		case damage != "" || m.Kind != kindAnswer:
			return fmt.Errorf("M4 NoTear: kind %d, %s", m.Kind, damage)
		case answer.Generation != id.Generation:
			return fmt.Errorf("L4 NoGhost: %v in generation %d", answer, id.Generation)
		case answer != id:
			continue // to a client before this one
		}
		if err := e.Send(ctx, kindLeave, messageOf(id, wordMessage)); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return nil
	}
}

// answer is a server's part, until a client has taken its leave and ended, or for
// ever.
func answer(ctx context.Context, e *ipc.Endpoint, forever bool) error {
	left := false
	buffer := make([]byte, wordMessage)
	for {
		m, err := e.ReceiveInto(ctx, buffer)
		if errors.Is(err, ipc.ErrPeerDied) || errors.Is(err, ipc.ErrPeerClosed) {
			if left && !forever {
				return nil
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		id, damage := idOf(m.Data)
		switch {
		case damage != "" || uint64(id.Generation) != e.Generation():
			return fmt.Errorf("L4 NoGhost: %v in generation %d, %s", id, e.Generation(), damage)
		case m.Kind == kindLeave:
			left = true
		default:
			if err := e.Send(ctx, kindAnswer, messageOf(id, wordMessage)); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
}

// serve is a server's whole life with one client that takes its leave.
func serve(ctx context.Context, path string) error {
	e, err := ipc.Listen(ctx, path, lively())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	err = answer(ctx, e, false)
	if closeErr := e.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("close of the server: %w", closeErr)
	}
	return err
}

// onlyLockFile returns an error if more is left of a path than what stays.
func onlyLockFile(path string) error {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, file := range files {
		if !staysBehind(file.Name(), path) {
			return fmt.Errorf("L8 NoLeak: %s is left", file.Name())
		}
	}
	return nil
}

// staleFiles leaves what a server leaves that died while it admitted a client: its
// socket, and a token file that it had not shown yet. Listen then makes all the calls
// that it can make. remove takes away what the life has not touched.
func staleFiles(path string) (remove func(), err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.Unlink(path)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	_ = unix.Close(fd)
	if err = cmp.Or(err, os.WriteFile(path+".token.new", nil, 0o600)); err != nil {
		return nil, err
	}
	left := map[string]uint64{} // inodes
	for _, name := range []string{path, path + ".token.new"} {
		var stat unix.Stat_t
		if err = cmp.Or(err, unix.Lstat(name, &stat)); err != nil {
			return nil, err
		}
		left[name] = stat.Ino
	}
	return func() {
		for name, inode := range left {
			var stat unix.Stat_t
			if unix.Lstat(name, &stat) == nil && stat.Ino == inode {
				_ = unix.Unlink(name)
			}
		}
	}, nil
}

// lifeArgument says which life a process is to lead.
type lifeArgument struct {
	Path string
	Role ipc.Role
}

func (a lifeArgument) live(ctx context.Context) error {
	if a.Role == ipc.RoleServer {
		return serve(ctx, a.Path)
	}
	return converseOnce(ctx, a.Path, victimLane)
}

// A life from its first system call to its last.
var _ = register("life", func(p *player) {
	var arg lifeArgument
	p.arg(&arg)
	if arg.Role == ipc.RoleServer {
		if _, err := staleFiles(arg.Path); err != nil {
			p.fail("%v", err)
		}
	}
	markBegin.here(0)
	if err := arg.live(context.Background()); err != nil {
		p.fail("%v", err)
	}
	markEnd.here(0)
	p.next()
})
