package model

import (
	"fmt"
	"math/bits"
)

// A LifecycleState is one state of the Lifecycle machine. Its fields are the
// variables of the spec; see there for what they mean.
type LifecycleState struct {
	left      budgets
	lockPath  int8
	byte0     [maxLockFile]process
	record    [maxLockFile]lockRecord
	tokenPath int8
	token     [maxToken]processSet
	byte1     [maxToken]processSet
	kept      [maxToken]bool
	path      process
	mem       [maxGen]memory
	made      int8
	srv       [maxServers]lifeServer
	cli       [maxClients]lifeClient
	conn      [maxConn]lifeConn
	frozen    processSet
	silent    [maxServers + maxClients]int8
	bad       promises
}

// A process is its number, from 1: first all servers, then all clients. Other
// values stand for nobody, for who has a copy of a descriptor, for a client that
// has left and keeps one, and for the socket that nobody listens on any more.
type process uint8

const (
	nobody process = 0
	copied process = 1 + maxServers + maxClients
	former process = 2 + maxServers + maxClients
	stale  process = 255
)

func (p process) isServer() bool { return p >= 1 && p <= maxServers }
func (p process) isClient() bool { return p > maxServers && p <= maxServers+maxClients }

func (p process) String() string {
	switch {
	case p.isServer():
		return fmt.Sprintf("s%d", p)
	case p.isClient():
		return fmt.Sprintf("c%d", p-maxServers)
	case p == stale:
		return `"stale"`
	case p == copied:
		return `"copy"`
	case p == former:
		return `"former"`
	}
	return `"none"`
}

// A processSet has bit p for process p.
type processSet uint8

func setOf(p process) processSet { return 1 << p }

func (s processSet) has(p process) bool { return s&setOf(p) != 0 }

// list has the members in order.
func (s processSet) list() (members []process) {
	for ; s != 0; s &= s - 1 {
		members = append(members, process(bits.TrailingZeros8(uint8(s))))
	}
	return members
}

// The budgets that may still happen.
type budgets struct {
	killS, killC, closeS, closeC, timeout, expel, freeze int8
	remove, removeToken, copies, former                  int8
}

type lockRecord struct {
	gen    int8
	client process
}

type memory struct{ ino, gen, bye, cbye, cin int8 }

type lifeServer struct {
	pc    serverPC
	ino   int8
	tok   int8
	mem   int8
	lis   listener
	cur   int8
	ready bool
	num   int8
	hung  bool
}

type lifeClient struct {
	pc    clientPC
	k     int8
	mem   int8
	tok   int8
	sfate fate
	hung  bool
}

type lifeConn struct {
	s, c process
	st   stage
	toS  packet
	toC  packet
	copy bool
	num  int8
	mem  int8
	tok  int8
	fate fate
	gone departure
}

// A serverPC is where a server stands.
type serverPC uint8

const (
	sIdle serverPC = iota
	sOpened
	sLocked0
	sLocked1
	sProbed
	sRecorded
	sSeg1
	sSeg2
	sCleared
	sBound
	sListening
	sRechecked
	sGiveUp
	sServing
	sClosing
	sUnlinked
	sLisClosed
	sBye
	sConnClosed
	sAwaited
	sUnmapped
	sUnlocked
	sDying
)

var serverPCs = [...]string{
	"idle", "opened", "locked0", "locked1", "probed", "recorded", "seg1", "seg2", "cleared", "bound", "listening",
	"rechecked", "giveUp", "serving", "closing", "unlinked", "lisClosed", "bye", "connClosed", "awaited", "unmapped", "unlocked", "dying",
}

func (pc serverPC) String() string { return serverPCs[pc] }
func (pc serverPC) closing() bool  { return pc >= sClosing && pc <= sUnlocked }
func (pc serverPC) lives() bool    { return pc != sIdle && pc != sDying }

// started holds from the start of a generation to its last trace on the path.
func (pc serverPC) started() bool {
	return pc >= sRecorded && pc <= sRechecked || pc == sServing || pc.closing()
}

// A clientPC is where a client stands.
type clientPC uint8

const (
	cIdle clientPC = iota
	cConnected
	cHello
	cGranted
	cMapped
	cStored
	cAttached
	cEndSeen
	cOver
	cBye
	cUnmapped
	cTokenClosed
	cDying
)

var clientPCs = [...]string{
	"idle", "connected", "hello", "granted", "mapped", "stored", "attached", "endSeen", "over", "bye", "unmapped", "tokenClosed", "dying",
}

func (pc clientPC) String() string { return clientPCs[pc] }
func (pc clientPC) lives() bool    { return pc != cIdle && pc != cDying }

// A stage is how far the server is with a connection.
type stage uint8

const (
	kFree stage = iota
	kBacklog
	kAccepted
	kGreeted
	kNoEnd
	kEnd
	kSettled
	kTaken
	kRecorded
	kGranted
	kWatch
	kEndSeen
	kExpelled
	kGaveUp
	kShut
)

var stages = [...]string{
	"free", "backlog", "accepted", "greeted", "noEnd", "end", "settled", "taken", "recorded", "granted", "watch",
	"endSeen", "expelled", "gaveUp", "shut",
}

func (st stage) String() string  { return stages[st] }
func (st stage) admitting() bool { return st >= kNoEnd && st <= kGranted }

// ended means that nothing more comes from the server.
func (st stage) ended() bool { return st == kShut || st == kExpelled }

// A packet is what lies unread in a socket's queue.
type packet uint8

const (
	pNone packet = iota
	pHello
	pReady
	pGrant
	pBare // a grant that has no token
	pRefuse
)

var packets = [...]string{"none", "hello", "ready", "grant", "bare", "refuse"}

func (p packet) String() string { return packets[p] }

// A departure is what a client's process is that has ended its connection, and was
// not killed.
type departure uint8

const (
	gNone departure = iota
	gLeft
	gKeeps // it has the descriptor of its token still
)

var departures = [...]string{"none", "left", "keeps"}

func (g departure) String() string { return departures[g] }

// A fate is how an attachment, or a server, has ended.
type fate uint8

const (
	fNone fate = iota
	fClosed
	fDied
	fLeft // during the handshake
)

var fates = [...]string{"none", "closed", "died", "left"}

func (f fate) String() string { return fates[f] }

// A listener is the state of a server's listening socket.
type listener uint8

const (
	lNo listener = iota
	lBound
	lListening
	lShut
)

var listeners = [...]string{"no", "bound", "listening", "shut"}

func (l listener) String() string { return listeners[l] }

// promises are those that a step has broken: a bit each.
type promises uint8

const (
	brokeL5 promises = 1 << iota
	brokeL6
	brokeL7
	brokeL8
)

// fail breaks a promise if the condition holds.
func (x *LifecycleState) fail(condition bool, broke promises) {
	if condition {
		x.bad |= broke
	}
}
