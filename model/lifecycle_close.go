package model

// Close of the server (C2).

func (m *lifecycle) closeBegun(x *LifecycleState, s process) bool {
	if x.left.closeS == 0 || !x.serverGoes(s, sServing, sClosing) {
		return false
	}
	x.left.closeS--
	x.server(s).lis = lShut
	if m.Mut == "Byte0First" {
		x.byte0[x.server(s).ino-1] = nobody
	}
	return true
}

func (m *lifecycle) pathUnlinked(x *LifecycleState, s process) bool {
	late := m.Mut == "UnlinkLate"
	if late {
		if !x.serverGoes(s, sUnlocked, sIdle) {
			return false
		}
		*x.server(s) = lifeServer{}
	} else if !x.serverGoes(s, sClosing, sUnlinked) {
		return false
	}
	if x.path == s || late {
		x.path = nobody
	}
	return true
}

func (m *lifecycle) listenerClosed(x *LifecycleState, s process) bool {
	from := sUnlinked
	if m.Mut == "UnlinkLate" {
		from = sClosing
	}
	if !x.serverGoes(s, from, sLisClosed) {
		return false
	}
	x.server(s).lis = lNo
	unnamed(&x.path, s)
	x.serverEndsAll(s, func(k lifeConn) bool { return k.st == kBacklog })
	return true
}

// told fixes for its clients what a server's end was.
func (m *lifecycle) told(x *LifecycleState, s process, how fate) {
	for _, c := range m.clients {
		if r := x.client(c); r.k != 0 && r.sfate == fNone && x.at(r.k).s == s {
			r.sfate = how
		}
	}
}

func (m *lifecycle) serverGoodbyeSaid(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sLisClosed, sBye) {
		return false
	}
	mem := x.memory(x.server(s).mem)
	mem.bye = mem.gen
	m.told(x, s, fClosed)
	return true
}

// serverConnectionClosed happens when every goroutine has ended.
func (m *lifecycle) serverConnectionClosed(x *LifecycleState, s process) bool {
	over := func(k lifeConn) bool { return k.st == kEndSeen || k.st == kExpelled || k.st == kGaveUp }
	if x.any(s, func(k lifeConn) bool { return !over(k) }) || !x.serverGoes(s, sBye, sConnClosed) {
		return false
	}
	x.serverEndsAll(s, over)
	x.server(s).unattached()
	return true
}

// tokenAwaited is that the token is free, or that Close gives up on its client.
func (m *lifecycle) tokenAwaited(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sConnClosed, sAwaited) {
		return false
	}
	tok := x.server(s).tok
	free := m.tokenFree(x, tok)
	slow := !free && x.frozen == 0 && !x.stuck(tok)
	due := !slow || x.left.timeout > 0
	x.fail(slow && !due, brokeL8)
	if slow && due {
		x.left.timeout--
	}
	return free || due && m.Mut != "NoCloseDeadline" || m.Mut == "AwaitsEndOnly"
}

func (m *lifecycle) serverSegmentUnmapped(x *LifecycleState, s process) bool {
	return !m.mustKill(x, s) && x.serverGoes(s, sAwaited, sUnmapped)
}

func (m *lifecycle) serverUnlocked(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sUnmapped, sUnlocked) {
		return false
	}
	r := x.server(s)
	if x.byte0[r.ino-1] == s && m.Mut != "ClosesOnly" {
		x.byte0[r.ino-1] = nobody
	}
	x.shut(s)
	r.tok = 0
	if m.Mut != "UnlinkLate" {
		*r = lifeServer{}
	}
	return true
}

// Close of the client (C1), of its own will or after its server's end (C9).

func (m *lifecycle) goodbyeSaid(x *LifecycleState, c process) bool {
	r := x.client(c)
	switch {
	case (x.clientAt(c, cAttached) || x.clientAt(c, cEndSeen)) && x.left.closeC > 0:
		k := x.at(r.k)
		x.left.closeC--
		if m.Mut != "NoGoodbye" {
			x.memory(r.mem).cbye = k.num
		}
		if k.st != kShut {
			k.fate = fClosed
		}
	case x.clientAt(c, cOver) && (m.Mut != "HoldsWhileRedialing" || x.answers(x.path)):
	default:
		return false
	}
	r.pc, r.sfate, r.hung = cBye, fNone, false
	return true
}

// leaves are the three steps of Close behind the goodbye, in their order.
func (m *lifecycle) leaves(unmapLast, order clientPC) clientPC {
	if m.Mut == "UnmapLast" {
		return unmapLast
	}
	return order
}

func (m *lifecycle) segmentUnmapped(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, m.leaves(cTokenClosed, cBye), cUnmapped) {
		return false
	}
	x.client(c).mem = 0
	return true
}

// tokenClosed frees the token for every copy of its descriptor.
func (m *lifecycle) tokenClosed(x *LifecycleState, c process) bool {
	if !x.clientGoes(c, m.leaves(cBye, cUnmapped), cTokenClosed) {
		return false
	}
	r := x.client(c)
	if x.held(r.tok, c) && m.Mut != "ClosesOnly" {
		x.unlocks(r)
	}
	r.tok = 0
	return true
}

func (x *LifecycleState) unlocks(r *lifeClient) {
	x.token[r.tok-1] &= setOf(former)
	x.at(r.k).copy = false
}

// tokenKept is what a client does that may lock it again.
func (m *lifecycle) tokenKept(x *LifecycleState, c process) bool {
	r := x.client(c)
	if x.left.former == 0 || !x.held(r.tok, c) || !x.clientGoes(c, cUnmapped, cTokenClosed) {
		return false
	}
	x.left.former--
	x.unlocks(r)
	x.kept[r.tok-1] = true
	k := x.at(r.k)
	if k.st != kShut {
		k.gone = gKeeps
	}
	r.tok = 0
	return true
}

func (m *lifecycle) connectionClosed(x *LifecycleState, c process) bool {
	if !x.clientAt(c, m.leaves(cUnmapped, cTokenClosed)) {
		return false
	}
	x.at(x.client(c).k).leaves()
	*x.client(c) = lifeClient{}
	return true
}
