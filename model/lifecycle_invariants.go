package model

import "slices"

// invariants are those of the spec, by their names.
func (m *lifecycle) invariants() []Invariant[LifecycleState] {
	named := []struct {
		name  string
		holds func(x *LifecycleState) bool
	}{
		{"TypeOK", m.typeOK},
		{"L1_SingleServer", m.singleServer},
		{"L1_OneServes", m.oneServes},
		{"L1_Path", m.pathIsServed},
		{"L2_SingleClient", m.singleClient},
		{"L3_BothRestart", m.bothRestart},
		{"L4_NoGhost", m.noGhost},
		{"L5_TrueVerdict", func(x *LifecycleState) bool { return x.bad&brokeL5 == 0 }},
		{"L6_Told", func(x *LifecycleState) bool { return x.bad&brokeL6 == 0 }},
		{"L6_Hang", m.hangIsCalled},
		{"L7_ClientRestart", m.clientRestart},
		{"L8_NoLeak", m.noLeak},
		{"L8_CloseAlone", m.closeAlone},
	}
	var all []Invariant[LifecycleState]
	for _, v := range named {
		all = append(all, Invariant[LifecycleState]{v.name, func(x LifecycleState) bool { return v.holds(&x) }})
	}
	return all
}

// every reports whether something holds of all of these processes.
func every(processes []process, holds func(process) bool) bool {
	return !slices.ContainsFunc(processes, func(p process) bool { return !holds(p) })
}

// atMostOne reports whether no two of these processes are so.
func atMostOne(processes []process, so func(process) bool) bool {
	count := 0
	for _, p := range processes {
		if so(p) {
			count++
		}
	}
	return count <= 1
}

// attached holds of a client that has been let in, until it can no longer touch
// the memory.
func (r *lifeClient) attached() bool { return r.pc == cGranted || r.pc == cMapped || r.mem != 0 }

// typeOK is what the types of Go leave open.
func (m *lifecycle) typeOK(x *LifecycleState) bool {
	servers := every(m.servers, func(s process) bool {
		r := x.server(s)
		return (r.cur == 0 || x.at(r.cur).s == s) && (r.pc != sIdle || *r == lifeServer{}) && int(r.ino) <= 1+m.Deletions
	})
	clients := every(m.clients, func(c process) bool {
		r := x.client(c)
		return (r.k == 0 || x.at(r.k).c == c) && (r.pc != cIdle || *r == lifeClient{})
	})
	locks := int(x.lockPath) <= 1+m.Deletions && !x.path.isClient() && int(x.made) <= m.MaxGen && x.tokenPath <= m.tokens
	for i := range x.byte0 {
		locks = locks && (x.byte0[i] == nobody || x.byte0[i].isServer()) && int(x.record[i].gen) <= m.MaxGen &&
			(x.record[i].client == nobody || x.record[i].client.isClient())
	}
	return servers && clients && locks && !slices.ContainsFunc(x.conn[:], func(k lifeConn) bool {
		fromClient := k.toS == pNone || k.toS == pHello || k.toS == pReady
		fromServer := k.toC != pHello && k.toC != pReady
		return k.st == kFree && k != lifeConn{} || k.copy && k.s == nobody || !fromClient || !fromServer
	})
}

func (m *lifecycle) singleServer(x *LifecycleState) bool {
	return atMostOne(m.servers, func(s process) bool { return x.server(s).pc.started() })
}

func (m *lifecycle) oneServes(x *LifecycleState) bool {
	return atMostOne(m.servers, x.serves)
}

func (m *lifecycle) pathIsServed(x *LifecycleState) bool {
	return every(m.servers, func(s process) bool { return !x.serves(s) || x.path == s })
}

func (m *lifecycle) singleClient(x *LifecycleState) bool {
	return atMostOne(m.clients, func(c process) bool { return x.client(c).attached() })
}

func (m *lifecycle) bothRestart(x *LifecycleState) bool {
	return every(m.servers, func(s process) bool {
		return !x.server(s).pc.started() || every(m.clients, func(c process) bool {
			r, mem := x.client(c), x.server(s).mem
			return !r.attached() || (r.mem == 0 || r.mem == mem) && x.at(r.k).mem == mem
		})
	})
}

// noGhost holds while each memory has one writer a side, each generation one
// number, and no memory an older generation's words.
func (m *lifecycle) noGhost(x *LifecycleState) bool {
	for i, a := range x.mem {
		for _, b := range x.mem[i+1:] {
			if a.gen != 0 && a.ino == b.ino && a.gen == b.gen {
				return false
			}
		}
		shared := func(s process) bool { return x.server(s).pc.started() && x.server(s).mem == int8(i+1) }
		mapped := func(c process) bool { return x.client(c).mem == int8(i+1) }
		if !atMostOne(m.servers, shared) || !atMostOne(m.clients, mapped) {
			return false
		}
	}
	return every(m.servers, func(s process) bool {
		if !x.server(s).pc.started() {
			return true
		}
		mem := x.memory(x.server(s).mem)
		return mem.bye == 0 || mem.bye == mem.gen
	})
}

// hangIsCalled holds while time does not pass a verdict that is due.
func (m *lifecycle) hangIsCalled(x *LifecycleState) bool {
	overdue := func(p process) bool { return x.frozen.has(p) && int(x.silent[p-1]) > m.HangTicks }
	return every(m.servers, func(s process) bool {
		return !x.serverAt(s, sServing) || !overdue(x.clientOf(s)) || x.server(s).hung
	}) && every(m.clients, func(c process) bool {
		return !x.up(c) || !overdue(x.serverOf(c)) || x.client(c).hung
	})
}

func (m *lifecycle) clientRestart(x *LifecycleState) bool {
	return x.bad&brokeL7 == 0 && every(m.clients, func(c process) bool {
		r := x.client(c)
		if !r.attached() {
			return true
		}
		k := x.at(r.k)
		return k.s == nobody || !x.serves(k.s) || k.mem == x.server(k.s).mem
	})
}

// noLeak holds while whoever is gone holds nothing, and nothing is left of all.
func (m *lifecycle) noLeak(x *LifecycleState) bool {
	allGone := true
	for _, p := range m.processes() {
		gone := p.isServer() && x.server(p).pc == sIdle || p.isClient() && x.client(p).pc == cIdle
		allGone = allGone && gone
		if gone && (x.holdsTokens(p) || slices.Contains(x.byte0[:], p)) {
			return false
		}
	}
	return x.bad&brokeL8 == 0 && (!allGone || x.conn == [maxConn]lifeConn{})
}

// closeAlone holds while Close of a server waits for no client but, with a
// deadline, for the token.
func (m *lifecycle) closeAlone(x *LifecycleState) bool {
	for i, k := range x.conn {
		if k.st == kWatch && x.server(k.s).pc == sBye && x.server(k.s).cur != int8(i+1) && k.c != nobody {
			return false
		}
	}
	return true
}
