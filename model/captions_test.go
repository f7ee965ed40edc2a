package model

// What the pictures of docs/STATES.md say of their states.

const aboutServer = "From afar. `Listen` and `Close` stand for the states of the two pictures below. A server may be killed, or stop, at any point; what it held the kernel then closes, in any order and piece by piece, and its path is stale."

var serverGroups = []caption{
	{state: "idle", means: "no server"},
	{state: "Listen", means: "takes both locks, makes memory and socket",
		of: []string{"opened", "locked0", "locked1", "probed", "recorded", "seg1", "seg2", "cleared", "bound", "listening", "rechecked", "giveUp"}},
	{state: "serving", means: "Listen has returned"},
	{state: "Close", means: "goodbye, waits for the token, unlocks",
		of: []string{"closing", "unlinked", "lisClosed", "bye", "connClosed", "awaited", "unmapped"}},
	{state: "dying", means: "killed, the kernel closes what it held"},
}

const aboutListen = "The order is what keeps two servers apart. Who connects before the socket listens is refused, and tries again; the token is held until nothing can fail any more, so that no client of an earlier generation lives."

var listenStates = []caption{
	{state: "idle", means: "no server"},
	{state: "opened", means: "the lock file is open"},
	{state: "locked0", means: "byte 0 held: no other server"},
	{state: "locked1", means: "the token held: no client"},
	{state: "probed", means: "nobody answers at P"},
	{state: "recorded", means: "the generation is counted"},
	{state: "seg1", means: "the server's memory is made"},
	{state: "seg2", means: "the client's memory too"},
	{state: "cleared", means: "P names nothing"},
	{state: "bound", means: "the socket is at P"},
	{state: "listening", means: "and listens"},
	{state: "rechecked", means: "P.lock is still the locked file"},
	{state: "serving", means: "the token is free for a client"},
	{state: "giveUp", means: "undoes what it did"},
}

const aboutClose = "In the order of rule C2: goodbye before anybody can see the end, byte 0 last."

var closeStates = []caption{
	{state: "serving", means: "Listen has returned"},
	{state: "closing", means: "Close has begun"},
	{state: "unlinked", means: "P is gone"},
	{state: "lisClosed", means: "nobody can connect"},
	{state: "bye", means: "goodbye is stored"},
	{state: "connClosed", means: "all goroutines have ended"},
	{state: "awaited", means: "the token is free, or time is over"},
	{state: "unmapped", means: "it cannot write any more"},
	{state: "idle", means: "byte 0 is free"},
}

const aboutClient = "From afar, as above. Who outlives its server drains what that had committed, and closes before it dials again (C9): the next server waits for its token."

var clientGroups = []caption{
	{state: "idle", means: "no client"},
	{state: "Dial", means: "connects, is let in, maps the memory", of: []string{"connected", "hello", "granted", "mapped", "stored"}},
	{state: "attached", means: "Dial has returned"},
	{state: "Orphan", means: "the server's end is seen, then proven", of: []string{"endSeen", "over"}},
	{state: "Close", means: "goodbye, unmaps, frees the token", of: []string{"bye", "unmapped", "tokenClosed"}},
	{state: "dying", means: "killed, the kernel closes what it held"},
}

const aboutDial = "`stored` is the point from which on the server tells of this client, whatever happens. The order of Close is rule C1: when the token is free the next client may be let in, so this one cannot write any more by then."

var clientStates = []caption{
	{state: "idle", means: "no client"},
	{state: "connected", means: "in the backlog"},
	{state: "hello", means: "waits for the answer"},
	{state: "granted", means: "has memory and token"},
	{state: "mapped", means: "the memory is mapped"},
	{state: "stored", means: "may have sent, from here on"},
	{state: "attached", means: "Dial has returned"},
	{state: "endSeen", means: "the server's socket has ended"},
	{state: "over", means: "the verdict is told"},
	{state: "bye", means: "goodbye is stored"},
	{state: "unmapped", means: "it cannot write any more"},
	{state: "tokenClosed", means: "the next may be admitted"},
}

const aboutConn = "One goroutine of the server for each connection. From `noEnd` or `end` to `granted` it holds the admission mutex: here, and nowhere else, the token is tested (C3)."

var connStates = []caption{
	{state: "free", means: "no connection, or refused", of: []string{"shut"}},
	{state: "backlog", means: "the kernel has accepted it"},
	{state: "accepted", means: "waits for the hello"},
	{state: "greeted", means: "the hello is read"},
	{state: "noEnd", means: "the former client is there"},
	{state: "end", means: "there is none, or it ends"},
	{state: "settled", means: "the former is settled"},
	{state: "taken", means: "its own token file is made"},
	{state: "recorded", means: "the lock file names the client"},
	{state: "granted", means: "memory and token are sent"},
	{state: "watch", means: "the own copy of the token is closed"},
	{state: "endSeen", means: "the socket has ended"},
	{state: "expelled", means: "dropped for corrupt memory"},
}

const aboutClientSeen = "What a server says of the one client that it may have, as in [PROTOCOL.md](PROTOCOL.md#the-servers-view-of-its-client)."

const aboutServerSeen = "What a client says of its server, as in [PROTOCOL.md](PROTOCOL.md#the-clients-view-of-its-server)."

var seenStates = []caption{
	{state: "absent", means: "none yet"},
	{state: "granted", means: "was given memory and token"},
	{state: "attached", means: "has mapped the memory"},
	{state: "hung", means: "lives, and is silent"},
	{state: "closed", means: "has left in good order"},
	{state: "died", means: "its process is dead"},
}
