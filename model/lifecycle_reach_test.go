package model

// withReach is the machine with the operators of tla/MCLifecycle.tla that say of
// a state that it is never reached, and must be wrong.
func withReach(config LifecycleConfig) Machine[LifecycleState] {
	m := newLifecycle(config)
	machine := Lifecycle(config)
	for name, reached := range m.reach() {
		machine.Invariants = append(machine.Invariants,
			Invariant[LifecycleState]{"Reach_" + name, func(x LifecycleState) bool { return !reached(&x) }})
	}
	return machine
}

func (m *lifecycle) reach() map[string]func(*LifecycleState) bool {
	formerOf := func(x *LifecycleState, k lifeConn) *lifeConn { // of a newcomer's server
		if cur := x.server(k.s).cur; cur != 0 {
			return x.at(cur)
		}
		return nil
	}
	newcomer := func(x *LifecycleState, k lifeConn) bool { // finds the token free, and the former client not settled
		return (k.st == kNoEnd || k.st == kEnd) && formerOf(x, k) != nil && m.tokenFree(x, x.server(k.s).tok)
	}
	return map[string]func(*LifecycleState) bool{
		"FrozenOrphan": func(x *LifecycleState) bool {
			return m.someServer(func(s process) bool {
				return x.server(s).pc == sLocked0 && m.someClient(func(c process) bool {
					return x.frozen.has(c) && x.held(x.tokenPath, c)
				})
			})
		},
		"NewcomerWaits": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool {
				return k.st == kEnd && k.c != nobody && x.server(k.s).cur != 0 && !m.tokenFree(x, x.server(k.s).tok)
			})
		},
		"FormerSocketOpen": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool {
				return newcomer(x, k) && formerOf(x, k).c != nobody
			})
		},
		"ReadyUnread": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool {
				if !newcomer(x, k) {
					return false
				}
				r := x.server(k.s)
				return !r.ready && x.memory(r.mem).cin == formerOf(x, k).num
			})
		},
		"OrphanOutlives": func(x *LifecycleState) bool {
			return m.someClient(func(c process) bool {
				return x.client(c).pc == cAttached && x.at(x.client(c).k).st == kShut
			}) && m.someServer(func(s process) bool { return x.server(s).pc == sLocked0 })
		},
		"GrantToDead": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool { return k.toC == pGrant && k.fate == fDied })
		},
		"GrantFromDead": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool { return k.toC == pGrant && k.st == kShut })
		},
		"Recovered": func(x *LifecycleState) bool {
			return m.someServer(func(s process) bool {
				c := x.clientOf(s)
				return x.server(s).hung && c.isClient() && x.up(c)
			})
		},
		"ServerRecovered": func(x *LifecycleState) bool {
			return m.someClient(func(c process) bool {
				s := x.serverOf(c)
				return x.client(c).hung && s.isServer() && x.up(s)
			})
		},
		"CloseGivesUp": func(x *LifecycleState) bool {
			return m.someServer(func(s process) bool {
				return x.server(s).pc == sAwaited && !m.tokenFree(x, x.server(s).tok)
			})
		},
		"LetsGoOfCopy": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool { return k.st == kGranted && !k.copy })
		},
		"DiesInAdmission": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool { return k.copy && k.s != nobody && x.server(k.s).pc == sDying })
		},
		"EndNotProven": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool {
				return k.st == kEndSeen && k.s != nobody && formerOf(x, k) != nil && *formerOf(x, k) == k && !m.tokenFree(x, k.tok)
			})
		},
		"TwoLockFiles": func(x *LifecycleState) bool {
			for i := range 1 + m.Deletions {
				if x.byte0[i] == nobody {
					return false
				}
			}
			return true
		},
		"Limit":       func(x *LifecycleState) bool { return !m.bothRestart(x) },
		"LimitOfLock": func(x *LifecycleState) bool { return !m.bothRestart(x) },
		"PathTaken":   func(x *LifecycleState) bool { return !m.pathIsServed(x) },
		"CopyOutlives": func(x *LifecycleState) bool {
			return x.some(func(k lifeConn) bool { return k.st == kEndSeen && m.clientExited(x, &k) && x.held(k.tok, copied) })
		},
		"FormerLocks": func(x *LifecycleState) bool {
			locked := false
			for i := range m.tokens {
				locked = locked || x.held(i+1, former)
			}
			return locked && m.someClient(func(c process) bool { return x.client(c).pc == cAttached })
		},
	}
}

func (m *lifecycle) someServer(so func(process) bool) bool {
	return !every(m.servers, func(s process) bool { return !so(s) })
}

func (m *lifecycle) someClient(so func(process) bool) bool {
	return !every(m.clients, func(c process) bool { return !so(c) })
}

func (x *LifecycleState) some(so func(lifeConn) bool) bool {
	for _, k := range x.conn {
		if so(k) {
			return true
		}
	}
	return false
}
