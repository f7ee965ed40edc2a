package model

// Token files: who holds them, and which there are.

// tokenFree reports whether no reference to the token is left, not even in the queue
// of a socket. A server that has no token to test finds it free.
func (m *lifecycle) tokenFree(x *LifecycleState, i int8) bool {
	if i == 0 {
		return true
	}
	if x.token[i-1] != 0 {
		return false
	}
	for _, k := range x.conn {
		if k.tok == i && (k.copy || k.toC == pGrant) {
			return false
		}
	}
	return true
}

func (x *LifecycleState) held(i int8, by process) bool { return i != 0 && x.token[i-1].has(by) }

// stuck reports that waiting may not help, though nobody is frozen.
func (x *LifecycleState) stuck(i int8) bool { return x.held(i, copied) || x.held(i, former) }

func (m *lifecycle) inUse(x *LifecycleState, i int8) bool {
	if x.token[i-1] != 0 || x.byte1[i-1] != 0 || x.kept[i-1] || m.Mut == "NamedLate" && x.tokenPath == i {
		return true
	}
	for _, r := range x.srv {
		if r.tok == i {
			return true
		}
	}
	for _, r := range x.cli {
		if r.tok == i {
			return true
		}
	}
	for _, k := range x.conn {
		if k.tok == i {
			return true
		}
	}
	return false
}

// fresh is a token file that is not there yet. What only P.token leads to is gone
// when that names another.
func (m *lifecycle) fresh(x *LifecycleState) int8 {
	for i := int8(1); i <= m.tokens; i++ {
		if !m.inUse(x, i) {
			return i
		}
	}
	panic("model: a LifecycleState has no room for another token file")
}

// shut closes a server's own descriptions of token files.
func (x *LifecycleState) shut(s process) {
	for i := range x.byte1 {
		x.byte1[i] &^= setOf(s)
	}
}

func (x *LifecycleState) holdsTokens(p process) bool {
	for i := range x.token {
		if x.token[i].has(p) || x.byte1[i].has(p) {
			return true
		}
	}
	return false
}

// clientExited is what the pidfd of a connection's client says, when all that it had
// is closed.
func (m *lifecycle) clientExited(x *LifecycleState, k *lifeConn) bool {
	return k.c == nobody && k.gone == gNone && every(m.clients, func(c process) bool {
		return x.client(c).pc != cDying || x.client(c).tok != k.tok
	})
}

func (m *lifecycle) serverExited(x *LifecycleState, mem int8) bool {
	return every(m.servers, func(s process) bool { return x.server(s).mem != mem })
}

// tested is the token that a newcomer waits for.
func (m *lifecycle) tested(x *LifecycleState, s process) int8 {
	if m.Mut == "TokenByPath" {
		return x.tokenPath
	}
	return x.server(s).tok
}

// proved lets a server forget a token that it has found free.
func (m *lifecycle) proved(x *LifecycleState, s process) {
	if m.Mut != "TestsAgain" {
		x.server(s).tok = 0
		x.shut(s)
	}
}

// Copies of descriptors, and former clients.

func (m *lifecycle) tokenCopied(x *LifecycleState, c process) bool {
	r := x.client(c)
	if !r.pc.lives() || !x.up(c) || x.left.copies == 0 || !x.held(r.tok, c) {
		return false
	}
	x.left.copies--
	x.token[r.tok-1] |= setOf(copied)
	return true
}

func (m *lifecycle) serverByteCopied(x *LifecycleState, s process) bool {
	r := x.server(s)
	if !x.serverAt(s, sServing) || r.cur == 0 || r.tok == 0 || x.left.copies == 0 {
		return false
	}
	x.left.copies--
	x.byte1[r.tok-1] |= setOf(copied)
	return true
}

func (m *lifecycle) copyEnded(x *LifecycleState, i int8) bool {
	if !(x.token[i-1] | x.byte1[i-1]).has(copied) {
		return false
	}
	x.token[i-1] &^= setOf(copied)
	x.byte1[i-1] &^= setOf(copied)
	return true
}

func (m *lifecycle) formerLocked(x *LifecycleState, i int8) bool {
	if !x.kept[i-1] || x.held(i, former) || !every(m.servers, func(s process) bool { return !x.held(i, s) }) {
		return false
	}
	x.token[i-1] |= setOf(former)
	return true
}

func (m *lifecycle) formerUnlocked(x *LifecycleState, i int8) bool {
	if !x.held(i, former) {
		return false
	}
	x.token[i-1] &^= setOf(former)
	return true
}

func (m *lifecycle) formerEnded(x *LifecycleState, i int8) bool {
	if !x.kept[i-1] {
		return false
	}
	x.kept[i-1] = false
	x.token[i-1] &^= setOf(former)
	return true
}

func (m *lifecycle) lockFileDeleted(x *LifecycleState) bool {
	if x.left.remove == 0 || x.lockPath == 0 {
		return false
	}
	x.left.remove--
	x.lockPath = 0
	return true
}

func (m *lifecycle) tokenFileDeleted(x *LifecycleState) bool {
	if x.left.removeToken == 0 || x.tokenPath == 0 {
		return false
	}
	x.left.removeToken--
	x.tokenPath = 0
	return true
}
