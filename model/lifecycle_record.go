package model

import (
	"fmt"
	"strconv"
)

// A LifecycleRun is a state of the life cycle, with how often each process was
// killed on the way there, and who has found its server gone before it could tell
// it ready: what that one does to be rid of its token and connection is not
// recorded.
type LifecycleRun struct {
	LifecycleState
	lives  [maxServers + maxClients]int8
	failed processSet
}

// LifecycleRuns is the machine of the life cycle as runs of it are recorded, and
// what package ipc records of it, by the names of internal/step. Who acts is a thread
// of control of a process: "s1" listens and closes, "s1.accept", "s1.hello" and
// "s1.admit" let a client in, "s1.watch 3.2" and "s1.end 3.2" learn of the end of
// the second one of generation 3; "c1" dials and closes, "c1.watch" learns of the
// server's; and the [Kernel] kills, as [LifecycleKill] says. Life is how often the
// process was killed before. Numbers of generations and attachments are part of
// the name.
//
// Not recorded are the actions that are no step, the end of a connection whose
// attachment is settled, and CloseBegun, which nobody sees. A process that is
// killed where it holds nothing is no action of the module: here that is KillIdle.
func LifecycleRuns(config LifecycleConfig) (Machine[LifecycleRun], Observer[LifecycleRun]) {
	m, plain := newLifecycle(config), Lifecycle(config)
	runs := Machine[LifecycleRun]{
		Actions: func(s LifecycleRun) []Action { return append(plain.Actions(s.LifecycleState), m.idleKills(&s)...) },
		Text:    func(s LifecycleRun) string { return plain.Text(s.LifecycleState) },
		Next: func(s LifecycleRun, a Action) LifecycleRun {
			if a.Name != "KillIdle" {
				s.LifecycleState = plain.Next(s.LifecycleState, a)
			}
			switch {
			case isKill(a):
				s.lives[processNamed(a.Args)-1]++
			case a.Name == "ReadyFailed":
				s.failed |= setOf(processNamed(a.Args))
			case a.Name == "Connected":
				s.failed &^= setOf(processNamed(a.Args))
			}
			return s
		},
	}
	for _, s := range plain.Init {
		runs.Init = append(runs.Init, LifecycleRun{LifecycleState: s})
	}
	for _, i := range plain.Invariants {
		runs.Invariants = append(runs.Invariants, Invariant[LifecycleRun]{i.Name, func(s LifecycleRun) bool { return i.Holds(s.LifecycleState) }})
	}
	return runs, lifecycleRecorded
}

func isKill(a Action) bool {
	return a.Name == "KillServer" || a.Name == "KillClient" || a.Name == "KillIdle"
}

// idleKills are the deaths of processes that hold nothing, as many as the bounds
// on kills allow of all.
func (m *lifecycle) idleKills(s *LifecycleRun) (all []Action) {
	for _, p := range m.processes() {
		idle, kills := p.isServer() && s.server(p).pc == sIdle, m.KillsS
		if p.isClient() {
			idle, kills = s.client(p).pc == cIdle, m.KillsC
		}
		if idle && int(s.lives[p-1]) < kills {
			all = append(all, Action{"KillIdle", p.String()})
		}
	}
	return all
}

// LifecycleKill is the event of a process having been killed.
func LifecycleKill(process string) Event {
	return Event{Who: Kernel, Name: "Killed " + process}
}

// processNamed is the inverse of process.String.
func processNamed(name string) process {
	for p := process(1); p <= maxServers+maxClients; p++ {
		if p.String() == name {
			return p
		}
	}
	panic("model: no process " + name)
}

func lifecycleRecorded(from LifecycleRun, a Action, to LifecycleRun) (Event, bool) {
	var p process
	var lane, name string
	switch k, err := strconv.Atoi(a.Args); {
	case isKill(a):
		return LifecycleKill(a.Args), true
	case err == nil:
		p = from.at(int8(k)).s
		lane, name = connRecorded(&from, a.Name, int8(k), &to)
	case a.Args == "" || len(a.Args) > len("s1"):
		return Event{}, false
	default:
		p = processNamed(a.Args)
		if p.isServer() {
			name = serverRecorded(a.Name, to.mem[max(to.server(p).mem, 1)-1].gen)
		} else {
			lane, name = clientRecorded(&from, a.Name, p)
		}
	}
	return Event{Who: p.String() + lane, Life: int(from.lives[max(p, 1)-1]), Name: name}, name != ""
}

// numbered is the name of a step that is about a generation or an attachment.
func numbered(name string, n int8) string { return fmt.Sprintf("%s %d", name, n) }

func serverRecorded(action string, generation int8) string {
	switch action {
	case "LockFileOpened", "ServerLocked", "TokenLocked", "StaleProbed", "ServerSegmentMade", "ClientSegmentMade",
		"SocketBound", "SocketListening", "LockFileRechecked", "TokenReturned",
		"PathUnlinked", "ListenerClosed", "TokenAwaited", "ClientKilled", "ServerUnlocked":
		return action
	case "GenerationRecorded":
		return numbered(action, generation)
	case "ServerGoodbyeSaid":
		return numbered("GoodbyeSaid", generation)
	case "ServerConnectionClosed", "ServerSegmentUnmapped":
		return action[len("Server"):]
	}
	return ""
}

func connRecorded(from *LifecycleRun, action string, k int8, to *LifecycleRun) (lane, name string) {
	about := func(lane string, k int8) string {
		c := from.at(k)
		return fmt.Sprintf("%s %d.%d", lane, from.memory(from.server(c.s).mem).gen, c.num)
	}
	switch action {
	case "ConnectionAccepted":
		return ".accept", action
	case "HelloReceived":
		return ".hello", action
	case "TokenTaken", "ClientRecorded", "TokenHandedOver":
		return ".admit", action
	case "GrantSent":
		return ".admit", numbered(action, to.at(k).num)
	case "ReadyReceived", "EndSeen":
		return about(".watch", k), action
	case "EndProven":
		if from.server(from.at(k).s).cur == k {
			return about(".end", k), action
		}
	case "FormerSettled":
		if former := from.server(from.at(k).s).cur; former != 0 {
			return about(".end", former), "EndProven"
		}
	}
	return "", ""
}

func clientRecorded(from *LifecycleRun, action string, c process) (lane, name string) {
	switch action {
	case "TokenClosed", "ConnectionClosed":
		if from.failed.has(c) {
			return "", ""
		}
		return "", action
	case "Connected", "HelloSent", "SegmentsMapped", "ReadySent", "SegmentUnmapped":
		return "", action
	case "GrantReceived", "AttachmentStored", "GoodbyeSaid":
		return "", numbered(action, from.at(from.client(c).k).num)
	case "ClientEndSeen", "ClientEndProven":
		return ".watch", action[len("Client"):]
	}
	return "", ""
}
