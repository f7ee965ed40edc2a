//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A pledge is a call as the reference sees it: what has happened to it, and so how it may end.
type pledge struct {
	id         int
	name       string
	sort       sort
	atMostOnce bool
	cancel     context.CancelFunc

	// What has happened to it.
	released   bool
	given      bool // its context has ended, or will
	starts     int  // deaths in which it had started
	blame      int  // deaths that are its deed, as far as anybody can tell
	lonely     bool // it is a suspect, and must run alone
	mustAnswer bool // it had begun in a process that has died, and is no suspect: so it was answered

	// How it has ended; set before done is closed.
	parts  []string
	answer string
	err    error
	done   chan struct{}
	judged bool
}

func (c *pledge) method() string { return methodOf(c.name, c.id) }

// ends reports whether a handler of it ends without anybody's help.
func (c *pledge) ends() bool { return !c.sort.holds || c.released || c.given }

func (c *pledge) String() string {
	return fmt.Sprintf("call %d (%s, started in %d deaths, blamed for %d, released %t, given up %t)", c.id, c.name, c.starts, c.blame, c.released, c.given)
}

// mustEnd reports whether nothing can happen to it any more but its end.
func (c *pledge) mustEnd(attempts int) bool {
	return c.mustAnswer || c.blame >= attempts || c.starts > 0 && c.atMostOnce
}

// excused reports whether nobody is to blame for a death: the pool has wished for it.
func excused(r Reason) bool { return r == ReasonStopped || r == ReasonReplaced || r == ReasonRetired }

// learn holds what the pool says of a death against what the workers have recorded, and notes what it
// means for each call.
func (m *machine) learn(d Death, begins []begin) {
	suspects := map[int]Suspect{}
	blamed, calls := 0, 0
	for _, s := range d.Suspects {
		if s.Blamed {
			blamed++
		}
		id := idOf(s.Method)
		if id < 0 {
			continue // a notification
		}
		calls++
		c := m.pledges[id]
		suspects[id] = s
		switch {
		case s.Attempt != c.starts+1:
			m.t.Fatalf("%v is a suspect in attempt %d: %+v", c, s.Attempt, d)
		case c.mustAnswer:
			m.t.Fatalf("%v was answered, and is a suspect: %+v", c, d)
		case s.Blamed && d.Reason == ReasonStuck && !c.given:
			m.t.Fatalf("%v is blamed for the stuck handler of another: %+v", c, d)
		}
	}
	switch {
	case excused(d.Reason) && blamed > 0:
		m.t.Fatalf("somebody is blamed for what the pool wished: %+v", d)
	case d.Reason == ReasonStuck && blamed > 1, !excused(d.Reason) && d.Reason != ReasonStuck && (blamed == 1) != (len(d.Suspects) == 1), blamed > 1:
		m.t.Fatalf("%d of %d suspects are blamed: %+v", blamed, len(d.Suspects), d)
	}
	for _, b := range begins {
		c := m.pledges[b.id]
		if s, is := suspects[b.id]; is && s.Attempt == b.attempt && b.pid != d.PID {
			m.t.Fatalf("%v is a suspect in process %d, and has begun in %d: %+v", c, d.PID, b.pid, d)
		} else if b.pid != d.PID || is || b.attempt != c.starts+1 || c.judged {
			continue
		}
		if !c.ends() || c.sort.deadly >= b.attempt {
			m.t.Fatalf("%v had begun, and is no suspect: %+v", c, d)
		}
		c.mustAnswer = true
	}
	for id, s := range suspects {
		c := m.pledges[id]
		if c.lonely && calls > 1 {
			m.t.Fatalf("%v does not run alone: %+v", c, d)
		}
		c.starts++
		if s.Blamed {
			c.blame++
		}
		c.lonely = c.lonely || c.blame > 0 || !excused(d.Reason) && d.Reason != ReasonStuck
	}
}

// judge holds the end of a call against what has happened to it.
func (m *machine) judge(c *pledge, begins []begin) {
	c.judged = true
	wrong := func(why string) {
		m.t.Fatalf("%v ends with %q, %q, %v: %s", c, c.answer, c.parts, c.err, why)
	}
	attempts := map[int]int{} // the process of each
	for _, b := range begins {
		if b.id != c.id {
			continue
		}
		if attempts[b.attempt] != 0 {
			wrong("a handler has begun twice for one attempt")
		}
		attempts[b.attempt] = b.pid
	}
	if c.atMostOnce && len(attempts) > 1 {
		wrong("a handler of a call that is at most once has begun twice")
	}
	if !isCount(c.parts) {
		wrong("its parts are not in order")
	}
	notSent, isUnknown := errors.Is(c.err, ErrNotSent), errors.Is(c.err, ErrOutcomeUnknown)
	if notSent && len(attempts) > 0 {
		wrong("it was sent")
	}
	var death *DeathError
	var remote *RemoteError
	errors.As(c.err, &death)
	isRemote := errors.As(c.err, &remote)
	switch {
	case errors.Is(c.err, context.Canceled) || errors.Is(c.err, context.DeadlineExceeded):
		if !c.given || !isRemote && notSent == isUnknown {
			wrong("nobody has given it up, or whether it was sent is not said")
		}
	case errors.Is(c.err, ErrPoison):
		if c.blame < m.attempts || isUnknown || notSent || death.Attempts != c.starts {
			wrong("it is not poison, or not that alone")
		}
	case c.blame >= m.attempts:
		wrong("it is poison")
	case errors.Is(c.err, ErrClosed):
		if begun := attempts[c.starts+1] != 0; !m.closing || notSent == isUnknown || begun && m.patient && c.sort.deadly <= c.starts {
			wrong("it was not broken off by Close, or whether it was sent is not said")
		}
	case isUnknown:
		if c.starts == 0 || !c.atMostOnce && len(c.parts) == 0 || notSent {
			wrong("it may be begun again, or has not died with its worker")
		}
	case c.starts > 0 && c.atMostOnce:
		wrong("it has died with its worker")
	case isRemote:
		if !c.sort.fails || remote.Message != "refused" {
			wrong("no handler has said so")
		}
	case c.err != nil || c.sort.fails:
		wrong("another end is its due")
	case c.sort.parts > 0:
		if len(c.parts) != 2*c.sort.parts || !c.released {
			wrong("parts are missing")
		}
	case c.sort.holds && !c.released || c.sort.deadly > c.starts:
		wrong("no handler can have answered")
	default:
		if want := fmt.Sprintf("%d %d %d", c.id, c.starts+1, attempts[c.starts+1]); c.answer != want {
			wrong("want " + want)
		}
	}
}

// judgeNotices holds the records of notifications against what is promised: in order, each
// at most once, and by no more processes than Notify has told.
func (m *machine) judgeNotices(notices []told) {
	byPlace, told := map[[2]int]int{}, map[int]int{}
	for _, n := range notices {
		byPlace[[2]int{n.pid, n.place}] = n.number
		told[n.number]++
	}
	for at, number := range byPlace {
		for other, later := range byPlace {
			if at[0] == other[0] && at[1] < other[1] && number >= later {
				m.t.Fatalf("process %d has handled notification %d and then %d", at[0], number, later)
			}
		}
	}
	for number, count := range told {
		if count > m.told[number] {
			m.t.Fatalf("%d processes have handled notification %d, and %d were told", count, number, m.told[number])
		}
	}
}

func (m *machine) describe() string {
	var b strings.Builder
	for _, c := range m.pledges {
		if !c.judged {
			fmt.Fprintf(&b, "%v\n", c)
		}
	}
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	for _, y := range m.stays() {
		fmt.Fprintf(&b, "start %d, serving %t, over %t, retiring %t, noticing %t, frozen %t:", y.start, y.serving, y.over, y.retiring, y.noticing, m.frozen[y.start])
		for _, f := range y.flightsInOrder() {
			fmt.Fprintf(&b, " %s (started %t, abandoned %t)", f.call.method, f.started, f.abandoned)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d ordinary and %d suspects wait; doomed %v, replacing %t\n", m.pool.ordinary.Len(), m.pool.suspects.Len(), m.doomed, m.replacing != nil)
	return b.String()
}
