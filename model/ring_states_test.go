package model

import "testing"

// ringDrawings are the pictures of the two ends of one direction. Deaths are not
// drawn: a thread may be killed wherever it stands.
func ringDrawings(t *testing.T) []*drawing {
	t.Helper()
	arcs := [threads]map[arc]bool{{}, {}, {}}
	for _, config := range ringsDrawn(t) {
		g, err := Explore(Ring(config), Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		for thread := range threads {
			project(g, arcs[thread], func(from, to RingState, a Action) []arc {
				p, q := from.PC[thread], to.PC[thread]
				if p == q || a.Name == "Killed" || p == ringDead || p == ringMapped {
					return nil
				}
				return []arc{{ringPCs[p], ringPCs[q], a.Name}}
			})
		}
	}
	draw := func(title, about string, states []caption, arcs map[arc]bool) *drawing {
		return &drawing{title: title, about: about, nothing: "idle", states: states, arcs: grouped(arcs, states)}
	}
	return []*drawing{
		draw("Sending", aboutSending, sendingStates, arcs[producer]),
		draw("Receiving", aboutReceiving, receivingStates, arcs[consumer]),
		draw("Releasing", aboutReleasing, releasingStates, arcs[releaser]),
	}
}

// ringsDrawn are small, and have every edge that is drawn: with -everything those
// that the checker goes through are explored too, and must add none.
func ringsDrawn(t *testing.T) []RingConfig {
	t.Helper()
	one := RingConfig{Cap: 1, MaxMsg: 2, MaxGen: 1, Batch: 1, Hold: 1, Client: Consumer}
	dies, cancelled, sender, cancels, server, holds, aborts, wakes, both := one, one, one, one, one, one, one, one, one
	dies.KillC, cancelled.CancelP, cancels.CancelC = 1, 1, 1
	sender.Client, sender.KillP = Producer, 1
	server.Client, server.KillC = Producer, 1
	holds.Cap, holds.Batch, holds.MaxMsg, holds.Hold = 2, 2, 3, 2
	aborts.Aborts, aborts.MaxMsg = true, 1
	wakes.Idle = true
	both.KillP, both.KillC, both.MaxMsg = 1, 1, 1
	all := []RingConfig{dies, cancelled, sender, cancels, server, holds, aborts, wakes, both}
	for _, s := range settings(t, "ring") {
		if *everything && s.Module != "Channel" && s.Kind == "holds" && s.Tier == "ci" {
			all = append(all, ringConfig(t, s))
		}
	}
	return all
}

const aboutSending = "`Endpoint.Send`, at the grain of one load or store of a shared word. The loop from `flags` to `woken` is the wait (W2): nothing is decided on a value that was loaded before the word that the sleeper is woken by. Not drawn: `Killed`, anywhere here and below."

var sendingStates = []caption{
	{state: "idle", means: "no call"},
	{state: "flags", means: "has loaded its interrupt counter"},
	{state: "end", means: "has loaded the flags"},
	{state: "position", means: "the server has not ended"},
	{state: "claimed", means: "there is room"},
	{state: "filled", means: "the payload is in the ring"},
	{state: "sealed", means: "the header too"},
	{state: "published", means: "writePos is stored: committed"},
	{state: "notify", means: "the receiver waits for this"},
	{state: "arm", means: "there is no room"},
	{state: "sleep", means: "spaceWaitFor is stored"},
	{state: "sleep2", means: "queued on the position"},
	{state: "asleep", means: "sleeps"},
	{state: "woken", means: "is awake"},
	{state: "disarm", means: "gives up, with its word raised", of: []string{"disarm idle", "disarm told", "disarm ended"}},
	{state: "ended", means: "the server has ended, now and for ever"},
}

const aboutReceiving = "`Endpoint.Receive`. The position is loaded before the recorded ends are looked at: what an ended peer had committed comes first, then its end, then its successor's messages (W6)."

var receivingStates = []caption{
	{state: "idle", means: "no call, or the user has the message"},
	{state: "flags", means: "has loaded its interrupt counter"},
	{state: "position", means: "has loaded the flags"},
	{state: "end", means: "has loaded writePos"},
	{state: "found", means: "there is a message"},
	{state: "peeked", means: "its header is checked"},
	{state: "delivered", means: "deliveredPos is stored"},
	{state: "views", means: "nothing there, and messages are held"},
	{state: "arm", means: "nothing is there"},
	{state: "sleep", means: "dataWaitFor is stored"},
	{state: "sleep2", means: "queued on the position"},
	{state: "asleep", means: "sleeps"},
	{state: "woken", means: "is awake"},
	{state: "disarm", means: "gives up, with its word raised", of: []string{"disarm idle", "disarm told", "disarm ended"}},
	{state: "told", means: "the next is the end of the peer"},
	{state: "ended", means: "the server has ended, now and for ever"},
}

const aboutReleasing = "`Message.Release`, by any goroutine."

var releasingStates = []caption{
	{state: "idle", means: "no call"},
	{state: "released", means: "readPos is stored"},
	{state: "notify", means: "the sender waits for this"},
}
