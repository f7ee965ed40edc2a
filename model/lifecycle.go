package model

import (
	"fmt"
	"slices"
)

// A LifecycleConfig bounds the Lifecycle machine, as the constants of the same
// names do tla/Lifecycle.tla.
type LifecycleConfig struct {
	Servers, Clients int      // processes, called s1, s2 and c1, c2; each may start again after its end
	MaxConn          int      // connections at a time
	MaxGen           int      // starts of a server that get as far as a generation
	KillsS, KillsC   int      // how many servers, clients are killed
	ClosesS, ClosesC int      // how many close of their own will
	Expels           int      // how many clients are dropped for corrupt memory
	Timeouts         int      // how many handshakes and closes time out though nobody is frozen
	Freezes          int      // how many freeze
	FreezeWho        []string // which processes may
	HangTicks        int      // HangTimeout, in ticks
	Deletions        int      // how often somebody deletes P.lock
	TokenDeletions   int      // and P.token
	Copies           int      // how many copies are made of a client's token, or of a server's lock
	Formers          int      // how many clients keep their token's descriptor when they leave
	Wait, KillOrphan bool     // Options of Listen
	KillOnClose      bool     // Option of Close
	KillHung         bool     // the supervisor kills a client that is called hung
	ThawsFair        bool     // who freezes thaws some day
	Returns          bool     // a client that has ended dials again some day
	Mut              string   // the planted bug
	Off              []string // defences that could mask it, switched off
}

// What a LifecycleState has room for.
const (
	maxServers  = 2
	maxClients  = 2
	maxConn     = 4
	maxGen      = 3
	maxLockFile = 2
	maxToken    = 7
)

// lifecycleMutants are the values of Mut, besides "none" and nothing.
var lifecycleMutants = []string{
	"AbandonUnlinks", "AdmitBeforeSettle", "AwaitsEndOnly", "Byte0First", "ClosesOnly", "DeathByByte0", "DiedOnSilence", "ForkKeepsToken", "FormerNotWoken",
	"GenerationReused", "GrantOnEOF", "HandshakesBlock", "HangWhenReadyOnly", "HoldsWhileRedialing", "KeepsCopy", "ListenSkipsToken",
	"NamedLate", "NoCloseDeadline", "NoGoodbye", "NoProbe", "NoRecheck", "NoRecord", "NoToken", "NumberAtReady", "OneAttempt", "RecheckFirst",
	"RefuseAlways", "SharedToken", "StaysCurrent", "TakesTruncated", "TestsAgain", "TokenAlone", "TokenByPath", "UnlinkLate", "UnlinkWithoutLock",
	"UnlockBeforeBind", "UnmapLast",
}

// Lifecycle is the machine of tla/Lifecycle.tla: servers and clients on one path,
// one system call that another process can notice an action. It panics if the
// configuration is larger than a LifecycleState, or names what there is not.
func Lifecycle(config LifecycleConfig) Machine[LifecycleState] {
	m := newLifecycle(config)
	all := machine([]LifecycleState{m.init()}, m.rules(), m.invariants(), m.text)
	all.Fair, all.Temporal = m.fairness(), m.temporal()
	return all
}

// A lifecycle is a machine's configuration, as its actions need it.
type lifecycle struct {
	LifecycleConfig
	servers, clients []process
	freezable        processSet
	probes           bool // the defence is on
	tokens           int8 // how many token files there can be at a time
}

func newLifecycle(config LifecycleConfig) *lifecycle {
	m := &lifecycle{
		LifecycleConfig: config,
		probes:          !slices.Contains(config.Off, "probe") && config.Mut != "NoProbe",
		tokens:          int8(1 + config.Servers + config.Clients + config.Copies + config.Formers),
	}
	if config.Mut != "" && config.Mut != "none" && !slices.Contains(lifecycleMutants, config.Mut) {
		panic("model: the life cycle has no mutant " + config.Mut)
	}
	if config.Servers > maxServers || config.Clients > maxClients || config.MaxConn > maxConn || config.MaxGen > maxGen || config.Deletions >= maxLockFile || m.tokens > maxToken {
		panic(fmt.Sprintf("model: a LifecycleState has no room for %+v", config))
	}
	for i := range config.Servers {
		m.servers = append(m.servers, process(1+i))
	}
	for i := range config.Clients {
		m.clients = append(m.clients, process(1+maxServers+i))
	}
	for _, name := range config.FreezeWho {
		i := slices.IndexFunc(m.processes(), func(p process) bool { return p.String() == name })
		if i < 0 {
			panic("model: no process " + name)
		}
		m.freezable |= setOf(m.processes()[i])
	}
	return m
}

func (m *lifecycle) processes() []process { return slices.Concat(m.servers, m.clients) }

func (m *lifecycle) init() LifecycleState {
	return LifecycleState{
		left: budgets{
			killS: int8(m.KillsS), killC: int8(m.KillsC), closeS: int8(m.ClosesS), closeC: int8(m.ClosesC),
			timeout: int8(m.Timeouts), expel: int8(m.Expels), freeze: int8(m.Freezes), remove: int8(m.Deletions),
			removeToken: int8(m.TokenDeletions), copies: int8(m.Copies), former: int8(m.Formers),
		},
		lockPath: 1, tokenPath: 1,
	}
}
