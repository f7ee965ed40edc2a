package chaos

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// recover takes the world from whatever the dead have left to a pair that works:
// the survivor finds out, receives what was committed and takes account; then
// come the successors, and both directions must carry. It returns false if
// somebody dies in it, or a promise is broken: it can then be called again.
func (w *world) recover() bool {
	for _, m := range []*member{w.server, w.client} {
		if m != nil && m.dead() {
			m.mourned = true
			w.leave(m)
		}
	}
	if w.dialing != nil {
		return w.takeOver() && w.exchange()
	}
	switch server, client := w.server.up(), w.client.up(); {
	case server && !client:
		theirs := w.client != nil && w.client.generation == w.server.generation // else of one before
		if theirs && !w.farewell(w.client) {
			return false
		}
	case client && !server:
		if !w.refuse() || !w.bereave(w.server) {
			return false
		}
	case !client && !server:
		w.checkFiles(true)
	}
	if !w.server.up() && !w.listen(command{Verb: "listen"}) {
		return false
	}
	if !w.client.up() && !w.succeed() {
		return false
	}
	return w.exchange()
}

// succeed has a client attach: the one that closed, or another one.
func (w *world) succeed() bool {
	if w.client == nil || w.client.dead() {
		if _, err := w.join(ipc.RoleClient); err != nil {
			w.broken("harness", "%v", err)
			return false
		}
	}
	return w.dial()
}

// refuse sees that no server can start beside the client of a dead one (L3).
func (w *world) refuse() bool {
	probe := &member{role: ipc.RoleServer, w: w, cues: map[step.ID]*cue{}}
	p, err := w.recruit(probe)
	if err != nil {
		w.broken("harness", "%v", err)
		return false
	}
	probe.party = p
	defer probe.bury()
	got, err := w.tell(probe, command{Verb: "listen"})
	if err == nil && got.Sort != "client running" {
		w.awaitFuse() // the client's lock goes before it counts as dead
	}
	if err == nil && got.Sort != "client running" && !w.fallen() {
		w.broken("L3 BothRestart", "a server beside the client of a dead one: %q", got.Trouble)
	}
	return err == nil && !w.fallen()
}

// takeOver has a new server start while a client dials that the last one left in
// the middle of it. That client may be attached to the dead one, and leaves then.
func (w *world) takeOver() bool {
	next, err := w.join(ipc.RoleServer)
	if err != nil {
		w.broken("harness", "%v", err)
		return false
	}
	listening := make(chan bool, 1)
	go func() { listening <- w.listenWith(next, command{Verb: "listen", Wait: true}) }()
	select {
	case err = <-w.dialing:
	case <-next.gone():
		<-listening
		return false // the client goes on dialling
	}
	w.dialing = nil
	switch {
	case errors.Is(err, errEnded):
		w.client.mourned = true
		w.leave(w.client)
	case err != nil:
		<-listening
		return false
	}
	if !w.client.dead() {
		former := w.formerServer(w.client.generation)
		if former == nil {
			return <-listening && w.attached()
		}
		if !w.bereave(former) {
			<-listening
			return false
		}
	}
	if !<-listening {
		return false
	}
	if c := w.client; c.dead() && c.generation == w.server.generation && !w.farewell(c) {
		return false
	}
	return w.succeed()
}

// formerServer is the server that opened a generation and was replaced since.
func (w *world) formerServer(generation uint32) *member {
	for _, m := range w.buried {
		if m.role == ipc.RoleServer && m.generation == generation {
			return m
		}
	}
	return nil
}

// exchange sees that both directions carry what was left in them, and a new
// message each (L7).
func (w *world) exchange() bool {
	s, c := w.server, w.client
	for _, do := range []struct {
		m *member
		c func() command
	}{
		{c, func() command { return command{Verb: "drain"} }},
		{s, func() command { return command{Verb: "drain"} }},
		{c, func() command { w.background.Wait(); return c.sizes("trysend", smallSize) }},
		{s, func() command { return s.sizes("trysend", smallSize) }},
		{s, func() command { return command{Verb: "drain"} }},
		{c, func() command { return command{Verb: "drain"} }},
	} {
		if _, ok := w.must(do.m, do.c(), "L7 ClientRestart"); !ok || w.fallen() {
			return false
		}
	}
	return true
}

// finish ends a pair that works, in good order, and judges everything.
func (w *world) finish() bool {
	if !w.close(ipc.RoleClient) {
		return false
	}
	if _, ok := w.must(w.server, command{Verb: "close"}, "M7 NoStuckWaiter"); !ok {
		return false
	}
	w.leave(w.server)
	w.checkFiles(false)
	d := w.ledgers[w.current]
	d.toServer.stream.Complete, d.toClient.stream.Complete = true, true
	return true
}

// checkFiles sees that nothing is left but what stays, and what a server leaves
// that died (L8).
func (w *world) checkFiles(died bool) {
	entries, err := os.ReadDir(filepath.Dir(w.path))
	if err != nil {
		w.broken("harness", "%v", err)
		return
	}
	for _, entry := range entries {
		switch name := filepath.Join(filepath.Dir(w.path), entry.Name()); {
		case staysBehind(entry.Name(), w.path):
		case died && (name == w.path || name == w.path+".token.new"):
		default:
			w.broken("L8 NoLeak", "%s is left", entry.Name())
		}
	}
}

// judge returns every broken promise, those of the streams included.
func (w *world) judge() []Failure {
	// A client can have been told of a goodbye before the script was.
	w.mu.Lock()
	for _, server := range w.departed {
		d := w.ledgers[server.generation].toClient.stream.Departed
		for i := range d {
			if server.goodbye {
				d[i].Closed = Yes
			}
		}
	}
	w.mu.Unlock()
	report := NewReport("", 0)
	for _, s := range w.streams() {
		Judge(s, report, "")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(w.failures, report.Failures...)
}
