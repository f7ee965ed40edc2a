package chaos

import (
	"context"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// killClose is the operation of killOnClose, in coordinates.
const killClose = "killclose"

// killOnClose is the row of a server that closes while its client is frozen, and
// kills it (Options.KillOnClose): the server dies at one step of its Close after
// the other. The only step that needs a process to be killed by its peer.
func (f *forking) killOnClose(ctx context.Context) {
	c := coordinate{Actor: ipc.RoleServer, Operations: []string{killClose}, Deaths: []point{{ipc.RoleServer, ipc.RoleServer, 0}}}
	for ctx.Err() == nil {
		c.Deaths[0].N++
		p := f.playKillOnClose(ctx, c)
		f.enter(ctx, p)
		if len(p.Deaths) == 0 || len(p.Failures) > 0 {
			return
		}
	}
}

// playKillOnClose plays one case of it.
func (f *forking) playKillOnClose(ctx context.Context, c coordinate) played {
	options := worldOptions(c.Operations)
	options.KillOnClose, options.CloseTimeout = true, 20*time.Millisecond
	return f.inWorld(ctx, c, options, strokes[0], nil, func(p *played, w *world) {
		if w.setup(ipc.RoleServer) {
			p.killOnClose(w, c)
		}
	})
}

func (p *played) killOnClose(w *world, c coordinate) {
	client := w.client.party.(*fork)
	stop := client.awaitStop()
	_ = client.signal(syscall.SIGSTOP)
	if <-stop != stopped {
		w.broken("harness", "the client cannot be frozen")
		return
	}
	w.arm(c.Deaths[0])
	got, err := w.tell(w.server, command{Verb: "close"})
	w.disarm()
	if err == nil { // untouched: then the client was killed
		if got.Trouble != "" {
			w.broken("L8 NoLeak", "close with KillOnClose: %s", got.Trouble)
		}
		w.leave(w.server)
	} else {
		p.mourn(w, killClose, c.Deaths[0])
		w.server.mourned = true
	}
	w.mu.Lock() // one that was broken off goes on
	last := w.server.last
	w.mu.Unlock()
	if err == nil || last >= step.ClientKilled {
		<-client.gone()
	} else if !w.refuse() { // it is frozen, alive, and keeps the next server out
		return
	}
	_ = client.signal(syscall.SIGKILL)
	<-client.gone()
	if !w.recover() || !w.finish() {
		w.unexplained("after a close with KillOnClose")
	}
}
