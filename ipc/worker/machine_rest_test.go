//go:build linux && (amd64 || arm64)

package worker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// await waits until a condition holds; the watchdog bounds it.
func (m *machine) await(what string, holds func() bool) {
	for deadline := time.Now().Add(watchdog); !holds(); {
		m.journal.mu.Lock()
		grown := m.journal.grown
		m.journal.mu.Unlock()
		select {
		case <-grown:
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("never: %s\n%s", what, m.describe())
		}
	}
}

// stopped reports whether each thread of a process has stopped, or the process is no more.
func stopped(pid int) bool {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, thread := range threads {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, thread.Name()))
		if !strings.Contains(string(status), "State:\tT") && !strings.Contains(string(status), "State:\tZ") {
			return false
		}
	}
	return err != nil || len(threads) > 0
}

// stays are the processes that have a place, or are leaving one, in their order.
//
// Preconditions: the pool's mu is held.
func (m *machine) stays() (stays []*stay) {
	for _, s := range slices.AppendSeq(slices.Clone(m.pool.slots), maps.Keys(m.pool.leaving)) {
		if s.current != nil {
			stays = append(stays, s.current)
		}
	}
	slices.SortFunc(stays, func(a, b *stay) int { return cmp.Compare(a.start, b.start) })
	return stays
}

// living are those of them that serve.
func (m *machine) living() []*stay {
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	return slices.DeleteFunc(m.stays(), func(y *stay) bool { return !y.serving || y.process == nil })
}

// rest waits until everything is at rest, and looks at it.
func (m *machine) rest(t *rapid.T) {
	m.t = t
	m.await("everything is at rest", func() bool {
		begins, notices := m.hear()
		return m.atRest(begins, notices)
	})
	m.look()
}

// hear tells the reference what has happened since. A death is in the stream of events before
// the calls end that it ends, and comes after the records of its process.
func (m *machine) hear() ([]begin, []told) {
	var ended []*pledge
	for _, c := range m.pledges {
		select {
		case <-c.done:
			if !c.judged {
				ended = append(ended, c)
			}
		default:
		}
	}
	m.await("the events are handled", func() bool {
		m.pool.events.mu.Lock()
		defer m.pool.events.mu.Unlock()
		return !m.pool.events.busy
	})
	m.journal.mu.Lock()
	events := m.journal.events[m.heard:]
	m.journal.mu.Unlock()
	m.heard += len(events)
	begins, notices := m.read()
	for _, event := range events {
		if event.Kind == EventEnded {
			m.tally.deaths++
			m.learn(*event.Death, begins)
			delete(m.doomed, event.Start)
			delete(m.frozen, event.Start)
		}
	}
	for _, c := range ended {
		m.judge(c, begins)
		if errors.Is(c.err, ErrPoison) {
			m.tally.poisons++
		}
	}
	m.judgeNotices(notices)
	if m.replacing != nil {
		select {
		case err := <-m.replacing:
			m.replacing = nil
			m.tally.replaced++
			if err != nil && !(m.disturbed && errors.Is(err, ErrNotReplaced)) && !(m.closing && errors.Is(err, ErrClosed)) {
				m.t.Fatalf("Replace: %v", err)
			}
		default:
		}
	}
	return begins, notices
}

// atRest reports whether each process and each call waits for what the machine does next.
func (m *machine) atRest(begins []begin, notices []told) bool {
	for start := range m.doomed {
		if !m.frozen[start] {
			return false
		}
	}
	p := m.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := false // somebody keeps Replace waiting
	asking := 0
	known := map[int]bool{}
	for s := range p.leaving {
		if s.current == nil || s.current.over || !m.frozen[s.current.start] && len(s.current.flights) == 0 {
			return false
		}
		kept = true
	}
	for _, s := range p.slots {
		if s.current == nil || !s.current.serving {
			return false
		}
	}
	for _, y := range m.stays() {
		frozen := m.frozen[y.start]
		if !frozen && len(y.notified) > 0 {
			return false
		}
		for _, f := range y.flights {
			c := m.pledges[idOf(f.call.method)]
			known[c.id] = true
			began := slices.Contains(begins, begin{c.id, c.starts + 1, y.process.pidOf()})
			if f.abandoned || !frozen && (!f.started || !began || c.ends()) {
				return false
			}
			if c.sort.asks && began {
				asking++
			}
		}
	}
	for _, queue := range m.queues() {
		for _, c := range queue {
			if c.given {
				return false
			}
			known[c.id] = true
		}
	}
	for _, c := range m.pledges {
		if !c.judged && !known[c.id] {
			return false
		}
	}
	return (m.replacing == nil || kept) && (asking == int(m.asking.Load()) || len(m.frozen) > 0)
}

// queues are the calls that wait, the suspects first.
//
// Preconditions: the pool's mu is held.
func (m *machine) queues() (queues [2][]*pledge) {
	for e := m.pool.suspects.Front(); e != nil; e = e.Next() {
		queues[0] = append(queues[0], m.pledges[idOf(e.Value.(*call).method)])
	}
	for e := m.pool.ordinary.Front(); e != nil; e = e.Next() {
		queues[1] = append(queues[1], m.pledges[idOf(e.Value.(*call).method)])
	}
	return queues
}

// look compares a pool at rest with the reference.
func (m *machine) look() {
	stats := m.pool.Stats()
	open := len(m.which(func(c *pledge) bool { return !c.judged }))
	if stats.Running+stats.Waiting != open || stats.Unasked != 0 {
		m.t.Fatalf("%d calls have not ended, and the counts are %+v", open, stats)
	}
	for _, c := range m.pledges {
		if !c.judged && c.mustEnd(m.attempts) {
			m.t.Fatalf("%v must have ended", c)
		}
	}
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	queues := m.queues()
	waiting := slices.Concat(queues[:]...)
	isLonely := func(c *pledge) bool { return c.lonely }
	lonely := slices.ContainsFunc(waiting, isLonely)
	ordinary := len(slices.DeleteFunc(slices.Clone(waiting), isLonely))
	room, empty, alone := 0, 0, 0 // workers that could take a call, or have none, or have one that must run alone
	for _, s := range m.pool.slots {
		flights := s.current.flights
		if len(flights) > m.concurrency {
			m.t.Fatalf("a worker has %d calls", len(flights))
		}
		has := 0
		for _, f := range flights {
			if m.pledges[idOf(f.call.method)].lonely {
				has++
			}
		}
		switch {
		case has > 0 && len(flights) > 1:
			m.t.Fatalf("a suspect does not run alone in start %d", s.current.start)
		case has > 0:
			alone++
		case len(flights) < m.concurrency:
			room++
		}
		if len(flights) == 0 {
			empty++
		}
	}
	spared := 0 // for a suspect that waits, one worker gets no more calls until it is empty
	if lonely && alone == 0 {
		spared = 1
	}
	if ordinary > 0 && room > spared || lonely && empty > 0 {
		m.t.Fatalf("%d ordinary calls wait, and %d workers have room; a suspect waits %t, and %d workers are empty", ordinary, room, lonely, empty)
	}
}

// close closes the pool: after all was released, if Close is patient.
func (m *machine) close() {
	if m.patient {
		for _, y := range m.living() {
			if m.frozen[y.start] {
				m.thaw(y)
			}
		}
		for _, c := range m.which((*pledge).holding) {
			m.release(c)
		}
	}
	m.t.Logf("close")
	m.closing, m.disturbed = true, true
	p, closed := m.pool, make(chan error, 1)
	go func() { closed <- p.Close() }()
	var err error
	m.await("Close", func() bool {
		select {
		case err = <-closed:
			return true
		default:
			return false
		}
	})
	if err != nil {
		m.t.Fatalf("Close: %v", err)
	}
	m.await("each call ends", func() bool {
		m.hear()
		return m.replacing == nil && len(m.which(func(c *pledge) bool { return !c.judged })) == 0
	})
	stats := p.Stats()
	if stats.Running+stats.Waiting != 0 || stats.Unasked != 0 || stats.Starts != stats.Deaths || m.asking.Load() != 0 {
		m.t.Fatalf("after Close the counts are %+v", stats)
	}
	if _, err := os.Stat(p.dir); !errors.Is(err, os.ErrNotExist) {
		m.t.Fatalf("the directory is left: %v", err)
	}
}
