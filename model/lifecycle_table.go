package model

import (
	"fmt"
	"slices"
)

// rules are all actions of the spec's Next.
func (m *lifecycle) rules() []rule[LifecycleState] {
	all := slices.Concat(m.serverRules(), m.connRules(), m.clientRules(), m.tokenRules())
	for _, p := range m.processes() {
		all = append(all,
			lifeRule("Freeze", p.String(), func(x *LifecycleState) bool { return m.freeze(x, p) }),
			lifeRule("Thaw", p.String(), func(x *LifecycleState) bool { return m.thaw(x, p) }))
	}
	return append(all, lifeRule("Tick", "", m.tick),
		lifeRule("LockFileDeleted", "", m.lockFileDeleted), lifeRule("TokenFileDeleted", "", m.tokenFileDeleted))
}

func lifeRule(name, args string, do func(x *LifecycleState) bool) rule[LifecycleState] {
	return rule[LifecycleState]{Action{name, args}, do}
}

// A ruleOf is an action of the spec that is quantified over processes, or over
// connections.
type ruleOf[W process | int8] struct {
	name string
	do   func(x *LifecycleState, who W) bool
}

func (m *lifecycle) serverRules() (all []rule[LifecycleState]) {
	rules := []ruleOf[process]{
		{"LockFileOpened", m.lockFileOpened}, {"ServerLocked", m.serverLocked}, {"ServerRunning", m.serverRunning},
		{"TokenLocked", m.tokenLocked}, {"ClientRunning", m.clientRunning},
		{"StaleProbed", m.staleProbed}, {"GenerationRecorded", m.generationRecorded},
		{"ServerSegmentMade", m.serverSegmentMade}, {"ClientSegmentMade", m.clientSegmentMade},
		{"StaleUnlinked", m.staleUnlinked}, {"SocketBound", m.socketBound}, {"SocketListening", m.socketListening}, {"LockFileRechecked", m.lockFileRechecked},
		{"TokenReturned", m.tokenReturned}, {"Abandoned", m.abandoned},
		{"CloseBegun", m.closeBegun}, {"PathUnlinked", m.pathUnlinked}, {"ListenerClosed", m.listenerClosed},
		{"ServerGoodbyeSaid", m.serverGoodbyeSaid}, {"ServerConnectionClosed", m.serverConnectionClosed},
		{"TokenAwaited", m.tokenAwaited}, {"ClientKilled", m.clientKilled},
		{"ServerSegmentUnmapped", m.serverSegmentUnmapped}, {"ServerUnlocked", m.serverUnlocked},
		{"KillServer", m.killServer}, {"HungClientKilled", m.hungClientKilled}, {"OrphanKilled", m.orphanKilled},
		{"KernelFreesLocks", m.kernelFreesLocks}, {"KernelFreesServerByte", m.kernelFreesServerByte},
		{"ServerByteCopied", m.serverByteCopied}, {"KernelClosesListener", m.kernelClosesListener},
		{"ClientHung", m.clientHung}, {"ClientRecovered", m.clientRecovered},
	}
	for _, s := range m.servers {
		for _, r := range rules {
			all = append(all, lifeRule(r.name, s.String(), func(x *LifecycleState) bool { return r.do(x, s) }))
		}
		for n := int8(1); int(n) <= m.MaxConn; n++ {
			all = append(all, lifeRule("KernelFreesCopy", fmt.Sprintf("%s, %d", s, n), func(x *LifecycleState) bool { return m.kernelFreesCopy(x, s, n) }))
			all = append(all, lifeRule("KernelClosesSocket", fmt.Sprintf("%s, %d", s, n), func(x *LifecycleState) bool { return m.kernelClosesSocket(x, s, n) }))
		}
	}
	return all
}

func (m *lifecycle) connRules() (all []rule[LifecycleState]) {
	rules := []ruleOf[int8]{
		{"ConnectionAccepted", m.connectionAccepted}, {"HelloReceived", m.helloReceived}, {"HandshakeEnded", m.handshakeEnded},
		{"AdmissionBegun", m.admissionBegun}, {"TokenTaken", m.tokenTaken}, {"AdmissionRefused", m.admissionRefused},
		{"FormerSettled", m.formerSettled}, {"ClientRecorded", m.clientRecorded}, {"GrantSent", m.grantSent},
		{"AdmissionGivenUp", m.admissionGivenUp}, {"TokenHandedOver", m.tokenHandedOver},
		{"ReadyReceived", m.readyReceived}, {"EndSeen", m.endSeen}, {"Expelled", m.expelled}, {"EndProven", m.endProven},
	}
	for n := int8(1); int(n) <= m.MaxConn; n++ {
		for _, r := range rules {
			all = append(all, lifeRule(r.name, fmt.Sprint(n), func(x *LifecycleState) bool { return r.do(x, n) }))
		}
	}
	return all
}

func (m *lifecycle) tokenRules() (all []rule[LifecycleState]) {
	rules := []ruleOf[int8]{
		{"CopyEnded", m.copyEnded}, {"FormerLocked", m.formerLocked}, {"FormerUnlocked", m.formerUnlocked}, {"FormerEnded", m.formerEnded},
	}
	for i := int8(1); i <= m.tokens; i++ {
		for _, r := range rules {
			all = append(all, lifeRule(r.name, fmt.Sprintf("token %d", i), func(x *LifecycleState) bool { return r.do(x, i) }))
		}
	}
	return all
}

func (m *lifecycle) clientRules() (all []rule[LifecycleState]) {
	rules := []ruleOf[process]{
		{"Connected", m.connected}, {"HelloSent", m.helloSent}, {"DialFailed", m.dialFailed},
		{"SegmentsMapped", m.segmentsMapped}, {"AttachmentStored", m.attachmentStored},
		{"ReadySent", m.readySent}, {"ReadyFailed", m.readyFailed},
		{"ClientEndSeen", m.clientEndSeen}, {"ClientEndProven", m.clientEndProven},
		{"GoodbyeSaid", m.goodbyeSaid}, {"SegmentUnmapped", m.segmentUnmapped},
		{"TokenClosed", m.tokenClosed}, {"TokenKept", m.tokenKept}, {"TokenCopied", m.tokenCopied}, {"ConnectionClosed", m.connectionClosed},
		{"KillClient", m.killClient}, {"KernelFreesToken", m.kernelFreesToken},
		{"KernelClosesConnection", m.kernelClosesConnection},
		{"ServerHung", m.serverHung}, {"ServerRecovered", m.serverRecovered},
	}
	for _, c := range m.clients {
		for _, r := range rules {
			all = append(all, lifeRule(r.name, c.String(), func(x *LifecycleState) bool { return r.do(x, c) }))
		}
		all = append(all, lifeRule("GrantReceived", c.String(), func(x *LifecycleState) bool { return m.grantReceived(x, c, false) }))
		if m.Mut == "TakesTruncated" {
			all = append(all, lifeRule("GrantReceived", c.String()+", truncated", func(x *LifecycleState) bool { return m.grantReceived(x, c, true) }))
		}
	}
	return all
}
