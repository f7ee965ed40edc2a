package model

// inFlight is the token file of which a connection keeps a descriptor, when the
// server looks at it no more.
func (k *lifeConn) inFlight() int8 {
	if k.toC == pGrant || k.toC == pBare {
		return k.tok
	}
	return 0
}

// serverEnd closes the server's end of a connection: the kernel purges what is
// unread there.
func (k *lifeConn) serverEnd() {
	if k.c == nobody {
		*k = lifeConn{}
		return
	}
	k.s, k.st, k.toS, k.copy, k.gone, k.tok = nobody, kShut, pNone, false, gNone, k.inFlight()
}

func (k *lifeConn) clientEnd() {
	if k.st == kShut {
		*k = lifeConn{}
		return
	}
	k.c, k.toC = nobody, pNone
}

// leaves is the client's end of a process that lives on.
func (k *lifeConn) leaves() {
	if k.st != kShut && k.gone == gNone {
		k.gone = gLeft
	}
	k.clientEnd()
}

// refuse closes it with a word.
func (k *lifeConn) refuse() {
	k.serverEnd()
	if k.c != nobody {
		k.toC, k.tok = pRefuse, 0
	}
}

// serverEndsAll closes those connections of a server.
func (x *LifecycleState) serverEndsAll(s process, those func(lifeConn) bool) {
	for i := range x.conn {
		if k := &x.conn[i]; k.s == s && those(*k) {
			k.serverEnd()
		}
	}
}

// any reports whether a connection of the server is so.
func (x *LifecycleState) any(s process, so func(lifeConn) bool) bool {
	for _, k := range x.conn {
		if k.s == s && so(k) {
			return true
		}
	}
	return false
}

// servedConn is a connection at one of the stages, with its server, which runs.
func (x *LifecycleState) servedConn(n int8, at ...stage) (k *lifeConn, r *lifeServer, ok bool) {
	k = x.at(n)
	for _, st := range at {
		if k.st == st {
			return k, x.server(k.s), x.runs(k.s)
		}
	}
	return nil, nil, false
}

// Admission, at the server: one action a goroutine and step.

func (m *lifecycle) connectionAccepted(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kBacklog)
	if !ok || r.pc != sServing {
		return false
	}
	if m.Mut == "HandshakesBlock" && x.any(k.s, func(j lifeConn) bool { return j.st == kAccepted || j.st == kGreeted || j.st.admitting() }) {
		return false
	}
	k.st = kAccepted
	return true
}

func (m *lifecycle) helloReceived(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kAccepted)
	if !ok || r.pc.closing() || k.toS != pHello {
		return false
	}
	k.st, k.toS = kGreeted, pNone
	return true
}

func (m *lifecycle) handshakeEnded(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kAccepted)
	if !ok {
		return false
	}
	silent := k.toS == pNone && (k.c == nobody || x.frozen.has(k.c) && m.Mut != "HandshakesBlock")
	if !silent && !r.pc.closing() {
		return false
	}
	k.serverEnd()
	return true
}

func (m *lifecycle) admissionBegun(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kGreeted)
	if !ok || r.pc.closing() || x.any(k.s, func(j lifeConn) bool { return j.st.admitting() }) {
		return false
	}
	k.st = kEnd
	if r.cur != 0 && x.at(r.cur).c != nobody && x.at(r.cur).st != kExpelled {
		k.st = kNoEnd
	}
	return true
}

// passes reports whether the one place that tests the token lets a newcomer pass.
func (m *lifecycle) passes(x *LifecycleState, k *lifeConn) bool {
	return m.tokenFree(x, m.tested(x, k.s)) || m.Mut == "GrantOnEOF" && k.st == kEnd
}

// tokenTaken makes a token file of the attachment's own, at P.token.
func (m *lifecycle) tokenTaken(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kNoEnd, kEnd, kSettled)
	if !ok {
		return false
	}
	settles := r.cur != 0 && m.Mut != "AdmitBeforeSettle"
	if k.st != kSettled && (r.pc.closing() || !m.passes(x, k) || settles) {
		return false
	}
	i := x.tokenPath
	if i == 0 || m.Mut != "SharedToken" {
		i = m.fresh(x)
	}
	x.shut(k.s)
	x.byte1[i-1] |= setOf(k.s)
	if m.Mut != "NamedLate" {
		x.tokenPath = i
	}
	k.copy, k.tok, k.st, r.tok = true, i, kTaken, i
	return true
}

func (m *lifecycle) admissionRefused(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kGreeted, kNoEnd, kEnd)
	if !ok {
		return false
	}
	tested := m.tested(x, k.s)
	busy := k.st != kGreeted && !m.tokenFree(x, tested)
	deadline := k.c == nobody || x.frozen != 0 || x.stuck(tested) || m.Mut == "RefuseAlways"
	excused := x.frozen != 0 || x.held(tested, copied) || x.held(tested, former) && r.cur != 0
	if !r.pc.closing() && (!busy || k.st != kNoEnd && !deadline) {
		return false
	}
	x.fail(!r.pc.closing() && k.st == kEnd && k.c != nobody && !excused, brokeL7)
	k.refuse()
	return true
}

// verdict is what the server says of an attachment whose end is proven, if it
// knows that there was one.
func (m *lifecycle) verdict(x *LifecycleState, s process, f int8) (says fate, told bool) {
	mem := x.memory(x.server(s).mem)
	says, told = fDied, x.server(s).ready || mem.cin == x.at(f).num && m.Mut != "NumberAtReady"
	if mem.cbye == x.at(f).num {
		says = fClosed
	}
	return says, told
}

// settled compares what the server says of an attachment with what that was.
// Silence is no proof of an end, but a mutant's.
func (m *lifecycle) settled(x *LifecycleState, s process, f int8, silence bool) {
	says, told := m.verdict(x, s, f)
	if silence {
		says = fDied
	}
	r, k := x.server(s), x.at(f)
	x.fail(told && says != k.fate && k.st != kExpelled, brokeL5)
	x.fail(!told && x.memory(r.mem).cin == k.num, brokeL6)
	for _, c := range m.clients {
		x.fail(x.client(c).mem == r.mem, brokeL7)
	}
}

func (r *lifeServer) unattached() { r.cur, r.ready, r.hung = 0, false, false }

func (m *lifecycle) formerSettled(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kNoEnd, kEnd)
	if !ok || m.Mut == "AdmitBeforeSettle" || r.pc.closing() || r.cur == 0 || !m.passes(x, k) {
		return false
	}
	m.settled(x, k.s, r.cur, false)
	f := x.at(r.cur)
	f.tok = f.inFlight()
	if f.st == kWatch && m.Mut != "FormerNotWoken" {
		f.st, f.toS = kEndSeen, pNone
	}
	r.unattached()
	m.proved(x, k.s)
	k.st = kSettled
	return true
}

func (m *lifecycle) clientRecorded(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kTaken)
	if !ok {
		return false
	}
	if m.Mut != "NoRecord" {
		x.record[r.ino-1].client = k.c
	}
	k.st = kRecorded
	return true
}

func (m *lifecycle) grantSent(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kRecorded)
	if !ok || r.pc.closing() || k.c == nobody {
		return false
	}
	x.fail(r.cur != 0, brokeL7)
	k.st, k.toC, k.num, k.mem = kGranted, pGrant, r.num+1, r.mem
	if m.Mut == "NoToken" {
		k.toC = pBare
	}
	r.cur = n
	if m.Mut != "NumberAtReady" {
		r.num++
	}
	return true
}

func (m *lifecycle) admissionGivenUp(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kRecorded)
	if !ok || !r.pc.closing() && k.c != nobody {
		return false
	}
	r.tok = 0
	x.shut(k.s)
	k.refuse()
	return true
}

func (m *lifecycle) tokenHandedOver(x *LifecycleState, n int8) bool {
	k, _, ok := x.servedConn(n, kGranted)
	if !ok {
		return false
	}
	k.st, k.copy = kWatch, false
	if m.Mut == "KeepsCopy" {
		x.token[k.tok-1] |= setOf(k.s)
	}
	if m.Mut == "NamedLate" {
		x.tokenPath = k.tok
	}
	return true
}

// A client that is attached, and its end, at the server.

func (m *lifecycle) readyReceived(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kWatch)
	if !ok || k.toS != pReady {
		return false
	}
	k.toS = pNone
	if r.cur == n {
		r.ready, r.num = true, k.num
	}
	return true
}

func (m *lifecycle) endSeen(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kWatch)
	if !ok {
		return false
	}
	ended := k.c == nobody && k.toS == pNone && (!x.held(k.tok, copied) || m.clientExited(x, k))
	if !ended && (!r.pc.closing() || r.cur != n) {
		return false
	}
	k.st = kEndSeen
	return true
}

func (m *lifecycle) expelled(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kWatch)
	if !ok || x.left.expel == 0 || r.pc.closing() || r.cur != n || !r.ready {
		return false
	}
	x.left.expel--
	k.st = kExpelled
	if k.c != nobody {
		k.toC = pRefuse
		x.client(k.c).sfate = fClosed
	}
	return true
}

func (m *lifecycle) endProven(x *LifecycleState, n int8) bool {
	k, r, ok := x.servedConn(n, kEndSeen, kExpelled)
	if !ok || r.pc.closing() {
		return false
	}
	free := m.tokenFree(x, k.tok)
	switch {
	case r.cur != n:
		k.serverEnd()
	case free || m.clientExited(x, k) && m.Mut != "TokenAlone":
		m.settled(x, k.s, n, false)
		if m.Mut != "StaysCurrent" {
			r.unattached()
		}
		if free {
			m.proved(x, k.s)
		}
		k.serverEnd()
	case m.Mut == "OneAttempt":
		k.st = kGaveUp
	default:
		return false
	}
	return true
}
