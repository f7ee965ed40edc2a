package model

// What is what.

func (x *LifecycleState) server(s process) *lifeServer { return &x.srv[s-1] }
func (x *LifecycleState) client(c process) *lifeClient { return &x.cli[c-1-maxServers] }
func (x *LifecycleState) at(k int8) *lifeConn          { return &x.conn[k-1] }
func (x *LifecycleState) memory(n int8) *memory        { return &x.mem[n-1] }

func (x *LifecycleState) up(p process) bool     { return !x.frozen.has(p) }
func (x *LifecycleState) runs(s process) bool   { return x.server(s).pc.lives() && x.up(s) }
func (x *LifecycleState) serves(s process) bool { return x.server(s).pc == sServing }

func (x *LifecycleState) serverAt(s process, pc serverPC) bool {
	return x.server(s).pc == pc && x.up(s)
}
func (x *LifecycleState) clientAt(c process, pc clientPC) bool {
	return x.client(c).pc == pc && x.up(c)
}

// answers reports whether somebody listens on the socket that a name leads to.
func (x *LifecycleState) answers(name process) bool {
	return name.isServer() && x.server(name).lis == lListening
}

// Listen.

func (m *lifecycle) lockFileOpened(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sIdle) || int(x.made) >= m.MaxGen || m.Deletions == 0 && !m.Wait && x.byte0[x.lockPath-1] != nobody {
		return false
	}
	if x.lockPath == 0 {
		x.lockPath = int8(1+m.Deletions) - x.left.remove
	}
	x.server(s).pc, x.server(s).ino = sOpened, x.lockPath
	if m.Mut == "UnlinkWithoutLock" {
		x.path = nobody
	}
	return true
}

func (m *lifecycle) serverLocked(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sOpened) || x.byte0[x.server(s).ino-1] != nobody {
		return false
	}
	x.byte0[x.server(s).ino-1] = s
	x.server(s).pc = sLocked0
	return true
}

func (m *lifecycle) serverRunning(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sOpened) || m.Wait || x.byte0[x.server(s).ino-1] == nobody {
		return false
	}
	*x.server(s) = lifeServer{}
	return true
}

func (m *lifecycle) tokenLocked(x *LifecycleState, s process) bool {
	skips := m.Mut == "ListenSkipsToken"
	i := x.tokenPath
	if !x.serverAt(s, sLocked0) || !m.tokenFree(x, i) && !skips {
		return false
	}
	if i == 0 {
		i = m.fresh(x)
	}
	if !skips {
		x.token[i-1] |= setOf(s)
	}
	x.tokenPath = i
	x.server(s).pc, x.server(s).tok = sLocked1, i
	return true
}

func (m *lifecycle) clientRunning(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sLocked0) || m.Wait {
		return false
	}
	ino := x.server(s).ino
	if m.KillOrphan && x.record[ino-1].client != nobody || m.tokenFree(x, x.tokenPath) {
		return false
	}
	x.byte0[ino-1] = nobody
	*x.server(s) = lifeServer{}
	return true
}

// staleProbed looks whether somebody answers, unless the defence is off.
func (m *lifecycle) staleProbed(x *LifecycleState, s process) bool {
	if x.answers(x.path) && m.probes {
		return x.serverGoes(s, sLocked1, sGiveUp)
	}
	return x.serverGoes(s, sLocked1, sProbed)
}

func (m *lifecycle) generationRecorded(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sProbed) || int(x.made) >= m.MaxGen {
		return false
	}
	record := &x.record[x.server(s).ino-1]
	if m.Mut != "GenerationReused" || record.gen == 0 {
		record.gen++
	}
	record.client = nobody
	x.made++
	*x.memory(x.made) = memory{ino: x.server(s).ino, gen: record.gen}
	x.server(s).pc, x.server(s).mem = sRecorded, x.made
	return true
}

// serverGoes is a step that changes nothing but where the server stands.
func (x *LifecycleState) serverGoes(s process, from, to serverPC) bool {
	if !x.serverAt(s, from) {
		return false
	}
	x.server(s).pc = to
	return true
}

func (m *lifecycle) serverSegmentMade(x *LifecycleState, s process) bool {
	return x.serverGoes(s, sRecorded, sSeg1)
}

func (m *lifecycle) clientSegmentMade(x *LifecycleState, s process) bool {
	return x.serverGoes(s, sSeg1, sSeg2)
}

func (m *lifecycle) staleUnlinked(x *LifecycleState, s process) bool {
	x.path = nobody
	return x.serverGoes(s, sSeg2, sCleared)
}

// socketBound fails where another has come between.
func (m *lifecycle) socketBound(x *LifecycleState, s process) bool {
	to := sGiveUp
	if x.path == nobody {
		to = sBound
	}
	if !x.serverGoes(s, sCleared, to) {
		return false
	}
	if to == sBound {
		x.path, x.server(s).lis = s, lBound
	}
	if m.Mut == "UnlockBeforeBind" {
		x.byte0[x.server(s).ino-1] = nobody
		x.token[x.server(s).tok-1] &^= setOf(s)
	}
	return true
}

// ordered are where a server stands before and after it listens, and after it has
// looked at the lock file again.
func (m *lifecycle) ordered() (bound, listening, rechecked serverPC) {
	if m.Mut == "RecheckFirst" {
		return sRechecked, sBound, sListening
	}
	return sBound, sListening, sRechecked
}

func (m *lifecycle) socketListening(x *LifecycleState, s process) bool {
	from, _, _ := m.ordered()
	if !x.serverGoes(s, from, sListening) {
		return false
	}
	x.server(s).lis = lListening
	return true
}

func (m *lifecycle) lockFileRechecked(x *LifecycleState, s process) bool {
	_, from, _ := m.ordered()
	if x.lockPath == x.server(s).ino || m.Mut == "NoRecheck" {
		return x.serverGoes(s, from, sRechecked)
	}
	return x.serverGoes(s, from, sGiveUp)
}

func (m *lifecycle) tokenReturned(x *LifecycleState, s process) bool {
	_, _, from := m.ordered()
	if !x.serverGoes(s, from, sServing) {
		return false
	}
	x.token[x.server(s).tok-1] &^= setOf(s)
	x.server(s).tok = 0
	return true
}

// unnamed makes the name of a socket that is closed stale.
func unnamed(name *process, s process) {
	if *name == s {
		*name = stale
	}
}

func (m *lifecycle) abandoned(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sGiveUp) {
		return false
	}
	r := x.server(s)
	if x.byte0[r.ino-1] == s {
		x.byte0[r.ino-1] = nobody
	}
	x.token[r.tok-1] &^= setOf(s)
	unnamed(&x.path, s)
	if m.Mut == "AbandonUnlinks" {
		x.path = nobody
	}
	x.serverEndsAll(s, func(lifeConn) bool { return true })
	*r = lifeServer{}
	return true
}
