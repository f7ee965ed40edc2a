package model

import (
	"fmt"
	"slices"
	"strings"
)

// A lifeFairness is one of the spec, for each of some processes or connections.
type lifeFairness[W process | int8] struct {
	name    string
	strong  bool
	actions string // that it is made of, if it is not one of its name
	unless  func(x *LifecycleState, action string, who W) bool
}

// fairness is what happens in the end: running processes go on, the kernel closes
// what the dead held, whoever owes an answer gives it. Nobody must die, close,
// freeze, or time out; who thaws and who comes back is a constant.
func (m *lifecycle) fairness() (all []Fairness[LifecycleState]) {
	all = append(all, fairFor(m.servers, []lifeFairness[process]{
		{name: "ServerStep", unless: m.closeTimesOut, actions: "LockFileOpened ServerLocked ServerRunning TokenLocked ClientRunning" +
			" StaleProbed GenerationRecorded ServerSegmentMade ClientSegmentMade" +
			" StaleUnlinked SocketBound SocketListening LockFileRechecked TokenReturned Abandoned" +
			" PathUnlinked ListenerClosed ServerGoodbyeSaid ServerConnectionClosed" +
			" TokenAwaited ClientKilled ServerSegmentUnmapped ServerUnlocked"},
		{name: "KernelStepS", actions: "KernelFreesLocks KernelFreesServerByte KernelFreesCopy KernelClosesListener KernelClosesSocket"},
		{name: "ClientHung"}, {name: "HungClientKilled"}, {name: "OrphanKilled"},
	})...)
	var conns []int8
	for n := range m.MaxConn {
		conns = append(conns, int8(n+1))
	}
	all = append(all, fairFor(conns, []lifeFairness[int8]{
		{name: "ConnectionAccepted"},
		{name: "HandshakeStep", actions: "HelloReceived HandshakeEnded"},
		{name: "AdmissionStep", strong: true, // the mutex is fair
			actions: "AdmissionBegun TokenTaken AdmissionRefused FormerSettled ClientRecorded GrantSent AdmissionGivenUp TokenHandedOver"},
		{name: "WatchStep", actions: "ReadyReceived EndSeen EndProven"},
	})...)
	ofClient := []lifeFairness[process]{
		{name: "ClientStep", unless: m.needNot, actions: "HelloSent DialFailed GrantReceived SegmentsMapped AttachmentStored ReadySent" +
			" ReadyFailed ClientEndSeen ClientEndProven SegmentUnmapped TokenClosed ConnectionClosed GoodbyeSaid"},
		{name: "KernelStepC", actions: "KernelFreesToken KernelClosesConnection"},
	}
	if m.Returns {
		ofClient = append(ofClient, lifeFairness[process]{name: "Connected"})
	}
	all = append(all, fairFor(m.clients, ofClient)...)
	if m.ThawsFair {
		all = append(all, fairFor(m.freezable.list(), []lifeFairness[process]{{name: "Thaw"}})...)
	}
	return append(all, Fairness[LifecycleState]{Name: "Tick", Is: func(_ LifecycleState, a Action) bool { return a.Name == "Tick" }})
}

// fairFor are these fairnesses of each process, or connection.
func fairFor[W process | int8](each []W, of []lifeFairness[W]) (all []Fairness[LifecycleState]) {
	for _, who := range each {
		args := fmt.Sprint(who)
		for _, f := range of {
			actions := strings.Fields(f.actions)
			if f.actions == "" {
				actions = []string{f.name}
			}
			is := func(x LifecycleState, a Action) bool {
				its := a.Args == args || strings.HasPrefix(a.Args, args+",")
				return its && slices.Contains(actions, a.Name) && (f.unless == nil || !f.unless(&x, a.Name, who))
			}
			all = append(all, Fairness[LifecycleState]{f.name + "(" + args + ")", f.strong, is})
		}
	}
	return all
}

// closeTimesOut holds of a Close that gives up though nobody is frozen.
func (m *lifecycle) closeTimesOut(x *LifecycleState, action string, s process) bool {
	r := x.server(s)
	return action == "TokenAwaited" && r.pc == sConnClosed && !m.tokenFree(x, r.tok) && x.frozen == 0 && !x.stuck(r.tok)
}

// needNot holds of a Dial that times out though its server is not frozen, and of a
// Close of the client's own will.
func (m *lifecycle) needNot(x *LifecycleState, action string, c process) bool {
	r := x.client(c)
	switch action {
	case "DialFailed":
		k := x.at(r.k)
		return r.pc == cHello && x.left.timeout > 0 && k.st != kShut && !x.frozen.has(k.s)
	case "GoodbyeSaid":
		return r.pc != cOver
	}
	return false
}

// temporal are the properties of the spec that are no invariants.
func (m *lifecycle) temporal() (all []LeadsTo[LifecycleState]) {
	leads := func(name string, from, to func(x *LifecycleState) bool) {
		p := LeadsTo[LifecycleState]{Name: name, To: func(x LifecycleState) bool { return to(&x) }}
		if from != nil {
			p.From = func(x LifecycleState) bool { return from(&x) }
		}
		all = append(all, p)
	}
	some := func(of []process, so func(process) bool) bool { return slices.ContainsFunc(of, so) }

	leads("L3_Recovers", nil, func(x *LifecycleState) bool {
		return some(m.servers, func(s process) bool {
			return x.serves(s) && some(m.clients, func(c process) bool { return x.serverOf(c) == s })
		})
	})
	leads("L3_Starts", nil, func(x *LifecycleState) bool { return some(m.servers, x.serves) })
	for _, s := range m.servers {
		for n := int8(1); int(n) <= m.MaxConn; n++ {
			leads("L6_Detect", func(x *LifecycleState) bool {
				return x.serves(s) && x.server(s).cur == n && x.at(n).c == nobody && x.at(n).gone != gKeeps
			}, func(x *LifecycleState) bool { return x.server(s).cur != n })
		}
		leads("L8_CloseEnds", func(x *LifecycleState) bool { return x.server(s).pc == sClosing },
			func(x *LifecycleState) bool { return !x.server(s).pc.closing() })
	}
	for _, c := range m.clients {
		leads("L6_Detect", func(x *LifecycleState) bool {
			r := x.client(c)
			return r.pc == cAttached && x.at(r.k).st.ended() || r.pc == cEndSeen
		}, func(x *LifecycleState) bool {
			pc := x.client(c).pc
			return pc != cAttached && pc != cEndSeen || x.frozen.has(c)
		})
		leads("L7_Answered", func(x *LifecycleState) bool { return x.client(c).pc == cHello },
			func(x *LifecycleState) bool { return x.client(c).pc != cHello || x.frozen.has(c) })
	}
	return all
}
