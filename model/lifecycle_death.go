package model

import "slices"

// Death. The mappings go first; then descriptors, in any order.

func (m *lifecycle) killServer(x *LifecycleState, s process) bool {
	r := x.server(s)
	if !r.pc.lives() || x.left.killS == 0 {
		return false
	}
	x.left.killS--
	r.pc, r.num = sDying, 0
	r.unattached()
	m.told(x, s, fDied)
	x.thaws(s)
	return true
}

// thaws ends a stop, and the silence that came with it.
func (x *LifecycleState) thaws(p process) {
	x.frozen &^= setOf(p)
	x.silent[p-1] = 0
}

// dead is what a kill does to a client that lives.
func (m *lifecycle) dead(x *LifecycleState, c process) bool {
	r := x.client(c)
	if !r.pc.lives() {
		return false
	}
	r.pc, r.mem, r.sfate, r.hung = cDying, 0, fNone, false
	if k := x.at(r.k); k.fate == fNone {
		k.fate = fDied
	}
	for i := range x.record {
		if x.record[i].client == c {
			x.record[i].client = nobody
		}
	}
	x.thaws(c)
	return true
}

func (m *lifecycle) killClient(x *LifecycleState, c process) bool {
	if x.left.killC == 0 {
		return false
	}
	x.left.killC--
	return m.dead(x, c)
}

// clientKilled is what Options.KillOnClose wants.
func (m *lifecycle) clientKilled(x *LifecycleState, s process) bool {
	return m.mustKill(x, s) && m.dead(x, x.record[x.server(s).ino-1].client)
}

func (m *lifecycle) mustKill(x *LifecycleState, s process) bool {
	if !m.KillOnClose || !x.serverAt(s, sAwaited) || m.tokenFree(x, x.server(s).tok) {
		return false
	}
	c := x.record[x.server(s).ino-1].client
	return c != nobody && x.client(c).pc.lives()
}

// hungClientKilled is the supervisor's policy.
func (m *lifecycle) hungClientKilled(x *LifecycleState, s process) bool {
	if !m.KillHung || !x.serverAt(s, sServing) || !x.server(s).hung {
		return false
	}
	c := x.at(x.server(s).cur).c
	return c != nobody && m.dead(x, c)
}

// orphanKilled is what Options.KillOrphan wants.
func (m *lifecycle) orphanKilled(x *LifecycleState, s process) bool {
	if !m.KillOrphan || !x.serverAt(s, sLocked0) || m.tokenFree(x, x.tokenPath) {
		return false
	}
	c := x.record[x.server(s).ino-1].client
	return x.frozen.has(c) && m.dead(x, c)
}

// gone lets a server start again when its last descriptor is closed.
func (x *LifecycleState) gone(s process) {
	r := x.server(s)
	holds := x.byte0[r.ino-1] == s || x.holdsTokens(s) || r.lis != lNo
	if !holds && !x.any(s, func(lifeConn) bool { return true }) {
		*r = lifeServer{}
	}
}

// kernelFreesLocks frees byte 0, and those of token files at the latest then.
func (m *lifecycle) kernelFreesLocks(x *LifecycleState, s process) bool {
	r := x.server(s)
	if r.pc != sDying {
		return false
	}
	byte0 := &x.byte0[r.ino-1]
	nothing := !x.holdsTokens(s) && r.lis == lNo && !x.any(s, func(lifeConn) bool { return true })
	if *byte0 != s && !nothing {
		return false
	}
	if *byte0 == s {
		*byte0 = nobody
	}
	x.freeTokens(s)
	return true
}

// kernelFreesServerByte frees the byte of its client's token file, or the token that
// it has taken for Listen.
func (m *lifecycle) kernelFreesServerByte(x *LifecycleState, s process) bool {
	if x.server(s).pc != sDying || !x.holdsTokens(s) {
		return false
	}
	x.freeTokens(s)
	return true
}

func (x *LifecycleState) freeTokens(s process) {
	for i := range x.token {
		x.token[i] &^= setOf(s)
	}
	x.shut(s)
	x.server(s).tok = 0
	x.gone(s)
}

// kernelFreesCopy closes the copy of the token that was for one connection.
func (m *lifecycle) kernelFreesCopy(x *LifecycleState, s process, n int8) bool {
	k := x.at(n)
	if x.server(s).pc != sDying || k.s != s || !k.copy {
		return false
	}
	k.copy = false
	return true
}

// kernelClosesListener comes before or behind the connections.
func (m *lifecycle) kernelClosesListener(x *LifecycleState, s process) bool {
	r := x.server(s)
	if r.pc != sDying || r.lis == lNo {
		return false
	}
	x.serverEndsAll(s, func(k lifeConn) bool { return k.st == kBacklog })
	unnamed(&x.path, s)
	r.lis = lNo
	x.gone(s)
	return true
}

// kernelClosesSocket closes the server's end of one connection.
func (m *lifecycle) kernelClosesSocket(x *LifecycleState, s process, n int8) bool {
	r, k := x.server(s), x.at(n)
	if r.pc != sDying || k.s != s || k.st == kBacklog {
		return false
	}
	if k.copy { // it outlives the socket
		x.token[k.tok-1] |= setOf(s)
	}
	k.serverEnd()
	x.gone(s)
	return true
}

func (m *lifecycle) kernelFreesToken(x *LifecycleState, c process) bool {
	r := x.client(c)
	if r.pc != cDying || r.tok == 0 {
		return false
	}
	if m.Mut != "ForkKeepsToken" {
		x.token[r.tok-1] &^= setOf(c)
	}
	r.tok = 0
	r.gone()
	return true
}

// gone lets a client start again when its last descriptor is closed.
func (r *lifeClient) gone() {
	if r.k == 0 && r.tok == 0 {
		*r = lifeClient{}
	}
}

func (m *lifecycle) kernelClosesConnection(x *LifecycleState, c process) bool {
	r := x.client(c)
	if r.pc != cDying || r.k == 0 {
		return false
	}
	x.at(r.k).clientEnd()
	r.k = 0
	r.gone()
	return true
}

// Freezing, time and the heartbeat.

func (m *lifecycle) freeze(x *LifecycleState, p process) bool {
	lives := p.isServer() && x.server(p).pc.lives() || p.isClient() && x.client(p).pc.lives()
	if !lives || x.frozen.has(p) || !m.freezable.has(p) || x.left.freeze == 0 {
		return false
	}
	x.left.freeze--
	x.frozen |= setOf(p)
	return true
}

func (m *lifecycle) thaw(x *LifecycleState, p process) bool {
	if !x.frozen.has(p) {
		return false
	}
	x.thaws(p)
	return true
}

// clientOf is the client that the server has let in.
func (x *LifecycleState) clientOf(s process) process {
	if cur := x.server(s).cur; cur != 0 {
		return x.at(cur).c
	}
	return nobody
}

// serverOf is the server of an attached client.
func (x *LifecycleState) serverOf(c process) process {
	if r := x.client(c); r.pc == cAttached {
		return x.at(r.k).s
	}
	return nobody
}

// watched are the frozen processes that somebody observes.
func (m *lifecycle) watched(x *LifecycleState) (set processSet) {
	for _, s := range m.servers {
		if x.serverAt(s, sServing) {
			set |= setOf(x.clientOf(s))
		}
	}
	for _, c := range m.clients {
		if x.up(c) {
			set |= setOf(x.serverOf(c))
		}
	}
	return set & x.frozen
}

// hangOfClient reports whether the server is due to call its client hung.
func (m *lifecycle) hangOfClient(x *LifecycleState, s process) bool {
	c := x.clientOf(s)
	return x.serverAt(s, sServing) && x.frozen.has(c) && !x.server(s).hung && int(x.silent[c-1]) >= m.HangTicks &&
		(m.Mut != "HangWhenReadyOnly" || x.server(s).ready)
}

func (m *lifecycle) hangOfServer(x *LifecycleState, c process) bool {
	s := x.serverOf(c)
	return x.up(c) && x.frozen.has(s) && !x.client(c).hung && int(x.silent[s-1]) >= m.HangTicks
}

// tick passes one heartbeat interval, but not a judgement that is due (L6).
func (m *lifecycle) tick(x *LifecycleState) bool {
	due := func(judge func(*LifecycleState, process) bool) func(process) bool {
		return func(p process) bool { return judge(x, p) }
	}
	if slices.ContainsFunc(m.servers, due(m.hangOfClient)) || slices.ContainsFunc(m.clients, due(m.hangOfServer)) {
		return false
	}
	passes := false
	for _, p := range m.watched(x).list() {
		if int(x.silent[p-1]) <= m.HangTicks {
			x.silent[p-1]++
			passes = true
		}
	}
	return passes
}

func (m *lifecycle) clientHung(x *LifecycleState, s process) bool {
	if !m.hangOfClient(x, s) {
		return false
	}
	r := x.server(s)
	if m.Mut == "DiedOnSilence" {
		m.settled(x, s, r.cur, true)
		r.unattached()
	} else {
		r.hung = true
	}
	return true
}

func (m *lifecycle) serverHung(x *LifecycleState, c process) bool {
	if !m.hangOfServer(x, c) {
		return false
	}
	x.client(c).hung = true
	return true
}

func (m *lifecycle) clientRecovered(x *LifecycleState, s process) bool {
	c := x.clientOf(s)
	if !x.serverAt(s, sServing) || !x.server(s).hung || !c.isClient() || x.frozen.has(c) {
		return false
	}
	x.server(s).hung = false
	return true
}

func (m *lifecycle) serverRecovered(x *LifecycleState, c process) bool {
	s := x.serverOf(c)
	if !x.up(c) || !x.client(c).hung || !s.isServer() || x.frozen.has(s) {
		return false
	}
	x.client(c).hung = false
	return true
}
