// Package step names the points of the protocol at which a process may die.
// The same names stand in docs/PROTOCOL.md, in the TLA+ spec, in traces and in
// the crash tests.
package step

import "fmt"

// An ID is one step. It is reached just after what its comment says is done.
type ID uint8

const (
	none ID = iota

	// The ring, producer's side.
	Claimed   // space for the record is found; nothing is stored yet
	Filled    // the payload stands in the ring, beyond the position
	Sealed    // so does the header: the record is whole
	Published // writePos is stored: the commit point
	Notified  // the receiver was woken, if it waited
	Aborted   // a reservation was given back

	// The ring, consumer's side.
	Peeked          // a record is seen and checked
	Delivered       // deliveredPos is stored, before the message is handed out
	Released        // readPos is stored
	ReleaseNotified // the sender was woken, if it waited

	// The doorbell.
	DataArmed  // dataWaitFor is stored
	SpaceArmed // spaceWaitFor is stored
	Sleeping   // about to sleep
	Woken      // back from the sleep
	Disarmed   // a waiting word is cleared, because its waiter gave up

	// The heartbeat.
	Beaten // beat is stored

	// Listen.
	ListenBegun        // nothing is done yet
	LockFileOpened     // the lock file is open
	ServerLocked       // byte 0 is locked
	TokenLocked        // the latest token is locked: no client lives
	StaleProbed        // nobody answers at the path
	GenerationRecorded // the lock file names this generation and this server
	ServerSegmentMade  // the server's memory is made, mapped, formatted and sealed
	ClientSegmentMade  // the client's memory likewise
	SocketBound        // the socket is at the path, and refuses
	SocketListening    // it listens
	LockFileRechecked  // the lock file is still the one locked
	TokenReturned      // the first client may come

	// Admission, at the server.
	ConnectionAccepted // a connection is accepted
	HelloReceived      // its hello is read and checked
	TokenTaken         // the token of a fresh token file is locked
	ClientRecorded     // the lock file names the client
	GrantSent          // memory and token are on their way
	TokenHandedOver    // the server's own copy of the token is closed
	ReadyReceived      // the client has mapped the memory

	// The end of a client, at the server.
	EndSeen      // the socket is at its end
	EndProven    // the token is free
	AccountTaken // the client's last positions are read and checked

	// Dial.
	DialBegun        // nothing is done yet
	Connected        // the socket is connected
	HelloSent        // the hello is on its way
	GrantReceived    // memory and token are here
	SegmentsMapped   // both memories are mapped and checked
	DataWaitCleared  // the predecessor's dataWaitFor is cleared
	SpaceWaitCleared // and its spaceWaitFor
	AttachmentStored // the attachment word is stored
	ReadySent        // the server is told

	// Close, on both sides where it applies.
	CloseBegun       // nothing is done yet
	PathUnlinked     // the socket's name is gone
	ListenerClosed   // nobody can connect any more
	GoodbyeSaid      // the goodbye word is stored
	SegmentUnmapped  // this process can no longer write the shared memory
	TokenClosed      // the client's token is free
	ConnectionClosed // the socket is closed
	TokenAwaited     // the server has seen the token free, or given up
	ClientKilled     // a client that did not leave was killed
	ServerUnlocked   // byte 0 is free

	// Count is one more than the largest ID.
	Count
)

var names = [Count]string{
	Claimed:            "Claimed",
	Filled:             "Filled",
	Sealed:             "Sealed",
	Published:          "Published",
	Notified:           "Notified",
	Aborted:            "Aborted",
	Peeked:             "Peeked",
	Delivered:          "Delivered",
	Released:           "Released",
	ReleaseNotified:    "ReleaseNotified",
	DataArmed:          "DataArmed",
	SpaceArmed:         "SpaceArmed",
	Sleeping:           "Sleeping",
	Woken:              "Woken",
	Disarmed:           "Disarmed",
	Beaten:             "Beaten",
	ListenBegun:        "ListenBegun",
	LockFileOpened:     "LockFileOpened",
	ServerLocked:       "ServerLocked",
	TokenLocked:        "TokenLocked",
	StaleProbed:        "StaleProbed",
	GenerationRecorded: "GenerationRecorded",
	ServerSegmentMade:  "ServerSegmentMade",
	ClientSegmentMade:  "ClientSegmentMade",
	SocketBound:        "SocketBound",
	SocketListening:    "SocketListening",
	LockFileRechecked:  "LockFileRechecked",
	TokenReturned:      "TokenReturned",
	ConnectionAccepted: "ConnectionAccepted",
	HelloReceived:      "HelloReceived",
	TokenTaken:         "TokenTaken",
	ClientRecorded:     "ClientRecorded",
	GrantSent:          "GrantSent",
	TokenHandedOver:    "TokenHandedOver",
	ReadyReceived:      "ReadyReceived",
	EndSeen:            "EndSeen",
	EndProven:          "EndProven",
	AccountTaken:       "AccountTaken",
	DialBegun:          "DialBegun",
	Connected:          "Connected",
	HelloSent:          "HelloSent",
	GrantReceived:      "GrantReceived",
	SegmentsMapped:     "SegmentsMapped",
	DataWaitCleared:    "DataWaitCleared",
	SpaceWaitCleared:   "SpaceWaitCleared",
	AttachmentStored:   "AttachmentStored",
	ReadySent:          "ReadySent",
	CloseBegun:         "CloseBegun",
	PathUnlinked:       "PathUnlinked",
	ListenerClosed:     "ListenerClosed",
	GoodbyeSaid:        "GoodbyeSaid",
	SegmentUnmapped:    "SegmentUnmapped",
	TokenClosed:        "TokenClosed",
	ConnectionClosed:   "ConnectionClosed",
	TokenAwaited:       "TokenAwaited",
	ClientKilled:       "ClientKilled",
	ServerUnlocked:     "ServerUnlocked",
}

// String returns the step's name.
func (s ID) String() string {
	if s > none && s < Count {
		return names[s]
	}
	return fmt.Sprintf("step.ID(%d)", uint8(s))
}

// All returns every step, in order.
func All() []ID {
	steps := make([]ID, 0, Count-1)
	for s := none + 1; s < Count; s++ {
		steps = append(steps, s)
	}
	return steps
}
