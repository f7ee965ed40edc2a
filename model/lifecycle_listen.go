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

// tokenFree reports whether no reference to byte 1 of the lock file is left, not
// even in the queue of a socket.
func (m *lifecycle) tokenFree(x *LifecycleState, ino int8) bool {
	if x.token[ino-1] != 0 {
		return false
	}
	for _, k := range x.conn {
		if k.ino == ino && (k.copy || k.toC == pGrant) {
			return false
		}
	}
	return true
}

// lifeFree reports whether the byte that only this generation ever locks is free.
func (m *lifecycle) lifeFree(x *LifecycleState, mem int8) bool {
	for _, s := range m.servers {
		if r := x.server(s); r.mem == mem && r.ino != 0 && x.byte0[r.ino-1] == s {
			return false
		}
	}
	return true
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
	if !x.serverAt(s, sLocked0) || !m.tokenFree(x, x.server(s).ino) && !skips {
		return false
	}
	if !skips {
		x.token[x.server(s).ino-1] |= setOf(s)
	}
	x.server(s).pc = sLocked1
	return true
}

func (m *lifecycle) clientRunning(x *LifecycleState, s process) bool {
	if !x.serverAt(s, sLocked0) || m.Wait {
		return false
	}
	ino := x.server(s).ino
	if m.KillOrphan && x.record[ino-1].client != nobody || m.tokenFree(x, ino) {
		return false
	}
	x.byte0[ino-1] = nobody
	*x.server(s) = lifeServer{}
	return true
}

// probe looks whether somebody answers, unless the defence is off.
func (m *lifecycle) probe(x *LifecycleState, s, name process, passed serverPC) bool {
	x.server(s).pc = passed
	if x.answers(name) && m.probes {
		x.server(s).pc = sGiveUp
	}
	return true
}

func (m *lifecycle) temporaryProbed(x *LifecycleState, s process) bool {
	name := x.temp
	if m.Mut == "ProbePathFirst" {
		name = x.path
	}
	return x.serverAt(s, sLocked1) && m.probe(x, s, name, sTempProbed)
}

func (m *lifecycle) staleProbed(x *LifecycleState, s process) bool {
	name := x.path
	if m.Mut == "ProbePathFirst" {
		name = x.temp
	}
	return x.serverAt(s, sTempProbed) && m.probe(x, s, name, sProbed)
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

func (m *lifecycle) generationLocked(x *LifecycleState, s process) bool {
	return x.serverGoes(s, sRecorded, sGenLocked)
}

func (m *lifecycle) serverSegmentMade(x *LifecycleState, s process) bool {
	return x.serverGoes(s, sGenLocked, sSeg1)
}

func (m *lifecycle) clientSegmentMade(x *LifecycleState, s process) bool {
	return x.serverGoes(s, sSeg1, sSeg2)
}

func (m *lifecycle) socketBound(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sSeg2, sBound) {
		return false
	}
	x.temp = s
	x.server(s).lis = lBound
	if m.Mut == "UnlockBeforeBind" {
		x.byte0[x.server(s).ino-1] = nobody
		x.token[x.server(s).ino-1] &^= setOf(s)
	}
	return true
}

func (m *lifecycle) socketListening(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sBound, sListening) {
		return false
	}
	x.server(s).lis = lListening
	return true
}

func (m *lifecycle) lockFileRechecked(x *LifecycleState, s process) bool {
	if x.lockPath == x.server(s).ino || m.Mut == "NoRecheck" {
		return x.serverGoes(s, sListening, sRechecked)
	}
	return x.serverGoes(s, sListening, sGiveUp)
}

func (m *lifecycle) socketRenamed(x *LifecycleState, s process) bool {
	if x.temp == nobody {
		return x.serverGoes(s, sRechecked, sGiveUp)
	}
	if !x.serverGoes(s, sRechecked, sRenamed) {
		return false
	}
	x.path, x.temp = x.temp, nobody
	return true
}

func (m *lifecycle) tokenReturned(x *LifecycleState, s process) bool {
	if !x.serverGoes(s, sRenamed, sServing) {
		return false
	}
	x.token[x.server(s).ino-1] &^= setOf(s)
	return true
}

// unnamed makes the names of a socket that is closed stale.
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
	x.token[r.ino-1] &^= setOf(s)
	if r.lis != lNo {
		x.temp = nobody
	}
	unnamed(&x.path, s)
	x.serverEndsAll(s, func(lifeConn) bool { return true })
	*r = lifeServer{}
	return true
}
