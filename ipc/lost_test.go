//go:build linux && (amd64 || arm64)

package ipc

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// When a file beside the path is deleted or replaced, another server may start
// beside this one. It is told, once.
func TestL3AServerTellsThatAFileBesideItsPathIsLost(t *testing.T) {
	for _, suffix := range []string{lockSuffix, tokenSuffix} {
		for name, lose := range map[string]func(string) error{
			"deleted": os.Remove,
			"replaced": func(path string) error {
				if err := os.WriteFile(path+".other", nil, 0o600); err != nil {
					return err
				}
				return os.Rename(path+".other", path)
			},
		} {
			t.Run(suffix+" "+name, func(t *testing.T) {
				path := testPath(t)
				server := listenHere(t, path, quickOptions())
				client := dialHere(t, path, quickOptions())
				nextEvent(t, server, EventAttached)
				if err := lose(path + suffix); err != nil {
					t.Fatal(err)
				}
				if event := nextEvent(t, server, EventLockFileLost); event.Err == nil || !strings.Contains(event.Err.Error(), path+suffix) {
					t.Errorf("event %+v, want the name of the file", event)
				}
				server.life.look()
				sendAll(t, client, 1) // the pair goes on
				if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 1 {
					t.Errorf("received %+v, %v", m, err)
				}
				if err := client.Close(); err != nil {
					t.Fatal(err)
				}
				nextEvent(t, server, EventClosed) // and nothing else is told in between
			})
		}
	}
}

// The server replaces its token file itself, while it looks.
func TestTheOwnTokenFilesAreNotLost(t *testing.T) {
	path := testPath(t)
	s := listenHere(t, path, nil).life.(*server)
	stop, ended := make(chan struct{}), make(chan struct{})
	var looks atomic.Int64
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				if lost := s.lostFile(); lost != "" {
					t.Errorf("%s is called lost", lost)
				}
				looks.Add(1)
			}
		}
	}()
	for ctx, i := testContext(t), 0; (i < 300 || looks.Load() < 10) && ctx.Err() == nil; i++ {
		s.admission.Lock()
		own, token, err := s.newToken()
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(token)
		own.close()
		s.admission.Unlock()
	}
	close(stop)
	<-ended
	if looks.Load() < 10 {
		t.Errorf("%d looks: the check is blind", looks.Load())
	}
}
