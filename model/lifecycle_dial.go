package model

// clientGoes is a step that changes nothing but where the client stands.
func (x *LifecycleState) clientGoes(c process, from, to clientPC) bool {
	if !x.clientAt(c, from) {
		return false
	}
	x.client(c).pc = to
	return true
}

// Dial.

func (m *lifecycle) connected(x *LifecycleState, c process) bool {
	if !x.answers(x.path) {
		return false
	}
	for n := int8(1); int(n) <= m.MaxConn; n++ {
		if k := x.at(n); k.st == kFree {
			*k = lifeConn{s: x.path, c: c, st: kBacklog}
			x.client(c).k = n
			return x.clientGoes(c, cIdle, cConnected)
		}
	}
	return false
}

func (m *lifecycle) helloSent(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cConnected, cHello) {
		return false
	}
	if k := x.at(x.client(c).k); k.st == kShut {
		k.toS = pNone
	} else {
		k.toS = pHello
	}
	return true
}

// dialFailed is a refusal, the connection's end, or a time-out.
func (m *lifecycle) dialFailed(x *LifecycleState, c process) bool {
	if !x.clientAt(c, cHello) {
		return false
	}
	k := x.at(x.client(c).k)
	slow := k.st != kShut && !x.frozen.has(k.s)
	ended := k.toC == pRefuse || k.st == kShut && k.toC == pNone || x.frozen.has(k.s)
	if !ended && (!slow || x.left.timeout == 0) {
		return false
	}
	if slow {
		x.left.timeout--
	}
	if k.fate == fNone {
		k.fate = fLeft
	}
	k.leaves()
	*x.client(c) = lifeClient{}
	return true
}

// grantReceived takes the grant, whole or without its descriptors.
func (m *lifecycle) grantReceived(x *LifecycleState, c process, truncated bool) bool {
	if !x.clientGoes(c, cHello, cGranted) {
		return false
	}
	r := x.client(c)
	k := x.at(r.k)
	if k.toC != pGrant && k.toC != pBare {
		return false
	}
	if k.toC == pGrant && !truncated {
		x.token[k.tok-1] |= setOf(c)
	}
	k.toC, r.tok = pNone, k.tok
	if k.st == kShut {
		k.tok = 0
	}
	return true
}

func (m *lifecycle) segmentsMapped(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cGranted, cMapped) {
		return false
	}
	r := x.client(c)
	r.mem = x.at(r.k).mem
	return true
}

func (m *lifecycle) attachmentStored(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cMapped, cStored) {
		return false
	}
	r := x.client(c)
	x.memory(r.mem).cin = x.at(r.k).num
	return true
}

func (m *lifecycle) readySent(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cStored, cAttached) {
		return false
	}
	k := x.at(x.client(c).k)
	k.toS = pReady
	return !k.st.ended()
}

func (m *lifecycle) readyFailed(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cStored, cUnmapped) {
		return false
	}
	r := x.client(c)
	r.mem, r.sfate = 0, fNone
	return x.at(r.k).st.ended()
}

func (m *lifecycle) clientEndSeen(x *LifecycleState, c process) bool {
	return x.clientGoes(c, cAttached, cEndSeen) && x.at(x.client(c).k).st.ended()
}

// verdictOfServer is what a client says of its server whose end it has seen, if
// that is proven.
func (m *lifecycle) verdictOfServer(x *LifecycleState, c process) (says fate, proven bool) {
	r := x.client(c)
	mem := x.memory(r.mem)
	bye := mem.bye == mem.gen || x.at(r.k).toC == pRefuse
	free, late := x.byte1[r.tok-1] == 0 || m.serverExited(x, r.mem) && m.Mut != "TokenAlone", false
	if m.Mut == "DeathByByte0" {
		holder := x.byte0[mem.ino-1]
		free, late = holder == nobody, holder != nobody && x.server(holder).pc != sDying
	}
	if !bye && free {
		return fDied, true
	}
	return fClosed, bye || late
}

func (m *lifecycle) clientEndProven(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, cEndSeen, cOver) {
		return false
	}
	says, proven := m.verdictOfServer(x, c)
	r := x.client(c)
	x.fail(says != r.sfate, brokeL5)
	r.sfate, r.hung = fNone, false
	return proven
}
