----------------------------- MODULE Lifecycle -----------------------------
(***************************************************************************)
(* Who lives on a path: servers and clients that start, attach, close,     *)
(* die at any point, freeze and thaw, and what the kernel does with their  *)
(* locks, sockets and descriptors.  One system call that another process   *)
(* can notice is one action, named as the step in internal/step/step.go where   *)
(* there is one, and any of them may be the last of its process.           *)
(*                                                                         *)
(* Locks.  Byte 0 of P.lock is the server's.  Each attachment has a token  *)
(* file of its own, which P.token names from its admission on (a rename):  *)
(* its byte 0 is the token, its byte 1 the lock of the server that let the *)
(* client in.  The token is held as long as any reference to the open file *)
(* description that locked it is left: the server's (Listen, and admission *)
(* until the descriptor is handed over), the grant's in the receive queue  *)
(* of a connection, the client's, and that of a copy.  So the lock is the  *)
(* set of those references; empty means free.  Who lets go of the token    *)
(* while it lives unlocks it, for all of them.  A dead process holds what  *)
(* it held until the kernel has closed it, piece by piece and in any       *)
(* order: the Kernel... actions.                                           *)
(*                                                                         *)
(* A copy is another process that has a descriptor of the same open file   *)
(* description (a fork without exec), until it ends; with the client's     *)
(* token it has the client's connection.  It keeps newcomers out and       *)
(* servers from starting, and no death from being told: a process that has *)
(* exited is dead.  A former client is one that has let its token go and   *)
(* keeps a descriptor of the file; it may lock it again, whenever it likes.*)
(*                                                                         *)
(* What holds when files are deleted.  P.lock alone: everything but L2 and *)
(* L3, which a server that dies while another takes the token may cost     *)
(* (Reach_LimitOfLock).  P.token alone: all but L2 and L3 (Reach_Limit).   *)
(* Both: a Listen that began before may also unlink the socket of a server *)
(* that began after, and gives up (Reach_PathTaken); L1_OneServes holds.   *)
(* L4 holds always.                                                        *)
(*                                                                         *)
(* Steps of ipc that are no action: ListenBegun, DialBegun, and CloseBegun *)
(* of a client (nothing is done); the clearing of the waiting words and    *)
(* AccountTaken (words that Ring has; here they are part of SegmentsMapped *)
(* and, under one mutex, of EndProven and FormerSettled).  TokenTaken is   *)
(* the making of a token file, its locks and its rename to P.token: before *)
(* the rename nobody looks at it.  The step EndProven is EndProven,        *)
(* FormerSettled (by admission) or ClientEndProven.  EndSeen,              *)
(* CloseBegun, GoodbyeSaid, SegmentUnmapped and ConnectionClosed are of    *)
(* one side; of the other they have Client or Server before the name.      *)
(*                                                                         *)
(* Not here: what a process writes into the memory besides the goodbye and *)
(* attachment words (Ring), the bound on handshakes under way, users and   *)
(* versions, the copies of byte 0 of P.lock.  A server whose client has    *)
(* left makes P.token name a fresh file; here it names the former one,     *)
(* which is free too, and only a former client that was the last one can   *)
(* tell them apart.  Consecutive calls of one process that no other can    *)
(* tell apart are one action: socket, chmod and bind, the seals.           *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Servers, Clients,  \* processes; each may start again after its end
  MaxConn,           \* connections at a time
  MaxGen,            \* starts of a server that get as far as a generation
  KillsS, KillsC,    \* how many servers, clients are killed
  ClosesS, ClosesC,  \* how many close of their own will
  Expels,            \* how many clients are dropped for corrupt memory
  Timeouts,          \* how many handshakes and closes time out though nobody is frozen
  Freezes,           \* how many freeze
  FreezeWho,         \* which processes may
  HangTicks,         \* HangTimeout, in ticks
  Deletions,         \* how often somebody deletes P.lock
  TokenDeletions,    \* and P.token
  Copies,            \* how many copies are made of a client's token, or of a server's lock
  Formers,           \* how many clients keep their token's descriptor when they leave
  Wait,              \* Options.Wait of Listen: keep byte 0, wait for byte 1
  KillOrphan,        \* Options.KillOrphan
  KillOnClose,       \* Options.KillOnClose
  KillHung,          \* the supervisor kills a client that is called hung
  ThawsFair,         \* who freezes thaws some day
  Returns,           \* a client that has ended dials again some day
  Mut,               \* the planted bug
  Off                \* defences that could mask it, switched off

None == "none"
Stale == "stale"     \* a name of a socket that nobody listens on
Copy == "copy"
Former == "former"
Ino == 1..(1 + Deletions)
Toks == 1..(1 + Cardinality(Servers) + Cardinality(Clients) + Copies + Formers)
Conns == 1..MaxConn
Gens == 1..MaxGen
Proc == Servers \union Clients

VARIABLES
  left,      \* budgets of the faults
  lockPath,  \* the inode that P.lock names; 0: none
  byte0,     \* [Ino -> the server that holds byte 0]
  tokenPath, \* the token file that P.token names; 0: none
  token,     \* [Toks -> who holds byte 0 of the token file, but for those in conn]
  byte1,     \* [Toks -> who holds byte 1]
  kept,      \* token files of which a former client has a descriptor
  record,    \* [Ino -> what the lock file says]
  path,      \* whose socket P names
  mem,       \* [Gens -> the memory of the n-th generation]
  made,      \* how many memories were made
  srv, cli, conn,
  frozen,    \* stopped processes
  silent,    \* [Proc -> ticks since its last beat]
  bad        \* promises that a step has broken

vars == <<left, lockPath, byte0, tokenPath, token, byte1, kept, record, path, mem, made, srv, cli, conn, frozen, silent, bad>>
tokens == <<tokenPath, token, byte1, kept>>
locks == <<lockPath, byte0, record, tokens>>
memory == <<mem, made>>
time == <<frozen, silent>>

SrvInit == [pc |-> "idle", ino |-> 0, tok |-> 0, mem |-> 0, lis |-> "no", cur |-> 0, ready |-> FALSE, num |-> 0, hung |-> FALSE]
CliInit == [pc |-> "idle", k |-> 0, mem |-> 0, tok |-> 0, sfate |-> None, hung |-> FALSE]
ConnInit == [s |-> None, c |-> None, st |-> "free", toS |-> None, toC |-> None, copy |-> FALSE,
             num |-> 0, mem |-> 0, tok |-> 0, fate |-> None, gone |-> None]
MemInit == [ino |-> 0, gen |-> 0, bye |-> 0, cbye |-> 0, cin |-> 0]

Init ==
  /\ left = [killS |-> KillsS, killC |-> KillsC, closeS |-> ClosesS, closeC |-> ClosesC,
             timeout |-> Timeouts, expel |-> Expels, freeze |-> Freezes, delete |-> Deletions,
             tdelete |-> TokenDeletions, copy |-> Copies, former |-> Formers]
  /\ lockPath = 1
  /\ byte0 = [i \in Ino |-> None]
  /\ tokenPath = 1
  /\ token = [i \in Toks |-> {}] /\ byte1 = [i \in Toks |-> {}]
  /\ kept = {}
  /\ record = [i \in Ino |-> [gen |-> 0, client |-> None]]
  /\ path = None
  /\ mem = [n \in Gens |-> MemInit] /\ made = 0
  /\ srv = [s \in Servers |-> SrvInit]
  /\ cli = [c \in Clients |-> CliInit]
  /\ conn = [k \in Conns |-> ConnInit]
  /\ frozen = {}
  /\ silent = [p \in Proc |-> 0]
  /\ bad = {}

-----------------------------------------------------------------------------
(* What is what.                                                           *)

Listening == {"opened", "locked0", "locked1", "probed", "recorded", "seg1", "seg2", "cleared", "bound", "listening",
              "rechecked", "giveUp"}
Closing == {"closing", "unlinked", "lisClosed", "bye", "connClosed", "awaited", "unmapped", "unlocked"}
SrvPc == {"idle", "serving", "dying"} \union Listening \union Closing
CliPc == {"idle", "connected", "hello", "granted", "mapped", "stored", "attached", "endSeen", "over", "bye", "unmapped",
          "tokenClosed", "dying"}
Stages == {"free", "backlog", "accepted", "greeted", "noEnd", "end", "settled", "taken", "recorded", "granted", "watch",
           "endSeen", "expelled", "gaveUp", "shut"}
\* Nothing more comes from the server.
Ended(k) == conn[k].st \in {"shut", "expelled"}
Admitting == {"noEnd", "end", "settled", "taken", "recorded", "granted"}

Up(p) == p \notin frozen
Lives(s) == srv[s].pc \notin {"idle", "dying"}
Runs(s) == Lives(s) /\ Up(s)
\* A server from the start of its generation to its last trace on the path.
Started(s) == srv[s].pc \in {"recorded", "seg1", "seg2", "cleared", "bound", "listening", "rechecked", "serving",
                             "closing", "unlinked", "lisClosed", "bye", "connClosed", "awaited", "unmapped", "unlocked"}
\* A client that has been let in, until it can no longer touch the memory.
Attached(c) == cli[c].pc \in {"granted", "mapped"} \/ cli[c].mem # 0
IsClosing(s) == srv[s].pc \in Closing
Serves(s) == srv[s].pc = "serving"

\* A server that has no token to test (0) was told by none of its clients, or has
\* found that of the last one free. It does not look again.
TokenFree(i) == IF i = 0 THEN TRUE ELSE
  /\ token[i] = {}
  /\ \A k \in Conns : conn[k].tok = i => ~conn[k].copy /\ conn[k].toC # "grant"
HasCopy(i) == IF i = 0 THEN FALSE ELSE Copy \in token[i]
HasFormer(i) == IF i = 0 THEN FALSE ELSE Former \in token[i]
\* Not to be had by waiting, though nobody is frozen.
Stuck(i) == HasCopy(i) \/ HasFormer(i)

\* A token file that is not there yet. What only P.token leads to is gone when that
\* names another.
InUse(i) ==
  \/ Mut = "NamedLate" /\ tokenPath = i
  \/ token[i] # {} \/ byte1[i] # {} \/ i \in kept
  \/ \E s \in Servers : srv[s].tok = i
  \/ \E c \in Clients : cli[c].tok = i
  \/ \E k \in Conns : conn[k].tok = i
Fresh == CHOOSE i \in Toks : ~InUse(i) /\ \A j \in Toks : ~InUse(j) => i <= j
\* The server closes its own description of a token file, or the kernel does.
Shut(s) == [i \in Toks |-> byte1[i] \ {s}]

\* The processes' own ends, by their pidfds: when all that they had is closed.
ClientExited(k) ==
  /\ conn[k].c = None /\ conn[k].gone = None
  /\ \A c \in Clients : cli[c].pc = "dying" => cli[c].tok # conn[k].tok
ServerExited(m) == \A s \in Servers : srv[s].mem # m
Answers(n) == IF n \in Servers THEN srv[n].lis = "listening" ELSE FALSE

\* The token file of which a connection keeps a descriptor, when the server looks at
\* it no more.
InFlight(k) == IF conn[k].toC \in {"grant", "bare"} THEN conn[k].tok ELSE 0

\* An end of a connection closes; the kernel purges its receive queue.
ServerEnd(cn, k) == [cn EXCEPT ![k] = IF @.c = None THEN ConnInit
                                      ELSE [@ EXCEPT !.s = None, !.st = "shut", !.toS = None, !.copy = FALSE, !.gone = None,
                                                     !.tok = InFlight(k)]]
\* The client's process lives on.
Leaves(cn, k) == [cn EXCEPT ![k].gone = IF cn[k].st = "shut" \/ @ # None THEN @ ELSE "left"]
ClientEnd(cn, k) == [cn EXCEPT ![k] = IF @.st = "shut" THEN ConnInit ELSE [@ EXCEPT !.c = None, !.toC = None]]
ServerEnds(cn, ks) == [k \in Conns |-> IF k \in ks THEN ServerEnd(cn, k)[k] ELSE cn[k]]
Refuse(cn, k) == [cn EXCEPT ![k] = IF @.c = None THEN ConnInit
                                   ELSE [@ EXCEPT !.s = None, !.st = "shut", !.toS = None, !.copy = FALSE, !.gone = None, !.tok = 0, !.toC = "refuse"]]
\* The listener's socket closes: its name is stale, its backlog is reset.
Unnamed(n, s) == IF n = s THEN Stale ELSE n
Backlog(s) == {k \in Conns : conn[k].s = s /\ conn[k].st = "backlog"}
AllOf(s) == {k \in Conns : conn[k].s = s}
Fail(cond, name) == IF cond THEN {name} ELSE {}

ToS(s, pc) == srv' = [srv EXCEPT ![s].pc = pc]
ToC(c, pc) == cli' = [cli EXCEPT ![c].pc = pc]
At(s, pc) == srv[s].pc = pc /\ Up(s)
AtC(c, pc) == cli[c].pc = pc /\ Up(c)

-----------------------------------------------------------------------------
(* Listen.                                                                 *)

\* A Listen that is bound to find byte 0 locked is left out: it leaves no trace.
LockFileOpened(s) ==
  /\ At(s, "idle") /\ made < MaxGen
  /\ IF Deletions = 0 /\ ~Wait THEN byte0[lockPath] = None ELSE TRUE
  /\ lockPath' = IF lockPath = 0 THEN 1 + Deletions - left.delete ELSE lockPath
  /\ srv' = [srv EXCEPT ![s].pc = "opened", ![s].ino = lockPath']
  /\ path' = IF Mut = "UnlinkWithoutLock" THEN None ELSE path
  /\ UNCHANGED <<left, byte0, record, tokens, memory, cli, conn, time, bad>>

ServerLocked(s) ==
  /\ At(s, "opened")
  /\ byte0[srv[s].ino] = None
  /\ byte0' = [byte0 EXCEPT ![srv[s].ino] = s]
  /\ ToS(s, "locked0")
  /\ UNCHANGED <<left, lockPath, record, tokens, path, memory, cli, conn, time, bad>>

\* ErrServerRunning: the next try opens the file again.
ServerRunning(s) ==
  /\ At(s, "opened") /\ ~Wait
  /\ byte0[srv[s].ino] # None
  /\ srv' = [srv EXCEPT ![s] = SrvInit]
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

\* No client of any generation lives: the token is that of the latest attachment.
TokenLocked(s) ==
  /\ At(s, "locked0")
  /\ LET i == IF tokenPath = 0 THEN Fresh ELSE tokenPath IN
     /\ TokenFree(i) \/ Mut = "ListenSkipsToken"
     /\ tokenPath' = i
     /\ token' = [token EXCEPT ![i] = IF Mut = "ListenSkipsToken" THEN @ ELSE @ \union {s}]
     /\ srv' = [srv EXCEPT ![s].pc = "locked1", ![s].tok = i]
  /\ UNCHANGED <<left, lockPath, byte0, byte1, kept, record, path, memory, cli, conn, time, bad>>

\* ErrClientRunning; with KillOrphan, if the lock file names nobody to kill.
ClientRunning(s) ==
  /\ At(s, "locked0") /\ ~Wait
  /\ KillOrphan => record[srv[s].ino].client = None
  /\ ~TokenFree(tokenPath)
  /\ byte0' = [byte0 EXCEPT ![srv[s].ino] = None]
  /\ srv' = [srv EXCEPT ![s] = SrvInit]
  /\ UNCHANGED <<left, lockPath, record, tokens, path, memory, cli, conn, time, bad>>

StaleProbed(s) ==
  /\ At(s, "locked1")
  /\ ToS(s, IF Answers(path) /\ "probe" \notin Off /\ Mut # "NoProbe" THEN "giveUp" ELSE "probed")
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

GenerationRecorded(s) ==
  /\ At(s, "probed")
  /\ made < MaxGen
  /\ LET i == srv[s].ino
         g == IF Mut = "GenerationReused" /\ record[i].gen > 0 THEN record[i].gen ELSE record[i].gen + 1
     IN /\ record' = [record EXCEPT ![i] = [gen |-> g, client |-> None]]
        /\ made' = made + 1
        /\ mem' = [mem EXCEPT ![made + 1] = [ino |-> i, gen |-> g, bye |-> 0, cbye |-> 0, cin |-> 0]]
        /\ srv' = [srv EXCEPT ![s].pc = "recorded", ![s].mem = made + 1]
  /\ UNCHANGED <<left, lockPath, byte0, tokens, path, cli, conn, time, bad>>

ServerSegmentMade(s) ==
  /\ At(s, "recorded")
  /\ ToS(s, "seg1")
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

ClientSegmentMade(s) ==
  /\ At(s, "seg1")
  /\ ToS(s, "seg2")
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

\* Whatever P names by now: a look at it first would be another call.
StaleUnlinked(s) ==
  /\ At(s, "seg2")
  /\ path' = None
  /\ ToS(s, "cleared")
  /\ UNCHANGED <<left, locks, memory, cli, conn, time, bad>>

\* Whoever connects is refused, until it listens.
SocketBound(s) ==
  /\ At(s, "cleared")
  /\ IF path # None THEN ToS(s, "giveUp") /\ path' = path
     ELSE path' = s /\ srv' = [srv EXCEPT ![s].pc = "bound", ![s].lis = "bound"]
  /\ byte0' = IF Mut = "UnlockBeforeBind" THEN [byte0 EXCEPT ![srv[s].ino] = None] ELSE byte0
  /\ token' = IF Mut = "UnlockBeforeBind" THEN [token EXCEPT ![srv[s].tok] = @ \ {s}] ELSE token
  /\ UNCHANGED <<left, lockPath, tokenPath, byte1, kept, record, memory, cli, conn, time, bad>>

\* From here on whoever starts finds it, and then it sees whether somebody else may
\* have started before: C5's order, which the mutant turns round.
Early == Mut = "RecheckFirst"
SocketListening(s) ==
  /\ At(s, IF Early THEN "rechecked" ELSE "bound")
  /\ srv' = [srv EXCEPT ![s].pc = "listening", ![s].lis = "listening"]
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

LockFileRechecked(s) ==
  /\ At(s, IF Early THEN "bound" ELSE "listening")
  /\ ToS(s, IF lockPath = srv[s].ino \/ Mut = "NoRecheck" THEN "rechecked" ELSE "giveUp")
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

TokenReturned(s) ==
  /\ At(s, IF Early THEN "listening" ELSE "rechecked")
  /\ token' = [token EXCEPT ![srv[s].tok] = @ \ {s}]
  /\ srv' = [srv EXCEPT ![s].pc = "serving", ![s].tok = 0]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, cli, conn, time, bad>>

\* A Listen that fails undoes what it did, and leaves P alone, which may be another
\* server's by now.
Abandoned(s) ==
  /\ At(s, "giveUp")
  /\ byte0' = [byte0 EXCEPT ![srv[s].ino] = IF @ = s THEN None ELSE @]
  /\ token' = [token EXCEPT ![srv[s].tok] = @ \ {s}]
  /\ path' = IF Mut = "AbandonUnlinks" THEN None ELSE Unnamed(path, s)
  /\ conn' = ServerEnds(conn, AllOf(s))
  /\ srv' = [srv EXCEPT ![s] = SrvInit]
  /\ UNCHANGED <<left, lockPath, tokenPath, byte1, kept, record, memory, cli, time, bad>>

-----------------------------------------------------------------------------
(* Admission, at the server: one action a goroutine and step.              *)

ConnectionAccepted(k) ==
  /\ conn[k].st = "backlog"
  /\ LET s == conn[k].s IN
     /\ Serves(s) /\ Runs(s)
     /\ Mut = "HandshakesBlock" => \A j \in AllOf(s) : conn[j].st \notin {"accepted", "greeted"} \union Admitting
  /\ conn' = [conn EXCEPT ![k].st = "accepted"]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

HelloReceived(k) ==
  /\ conn[k].st = "accepted" /\ conn[k].toS = "hello"
  /\ Runs(conn[k].s) /\ ~IsClosing(conn[k].s)
  /\ conn' = [conn EXCEPT ![k].st = "greeted", ![k].toS = None]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

\* No hello: the client is gone, its deadline is over (C7), or Close wakes the reader.
HandshakeEnded(k) ==
  /\ conn[k].st = "accepted"
  /\ Runs(conn[k].s)
  /\ \/ conn[k].toS = None /\ conn[k].c = None
     \/ conn[k].toS = None /\ conn[k].c \in frozen /\ Mut # "HandshakesBlock"
     \/ IsClosing(conn[k].s)
  /\ conn' = ServerEnd(conn, k)
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

\* Under the admission mutex: does the former client show its end?
AdmissionBegun(k) ==
  /\ conn[k].st = "greeted"
  /\ LET s == conn[k].s IN
     /\ Runs(s) /\ ~IsClosing(s)
     /\ \A j \in AllOf(s) : conn[j].st \notin Admitting
     /\ LET open == IF srv[s].cur = 0 THEN FALSE ELSE conn[srv[s].cur].c # None /\ conn[srv[s].cur].st # "expelled"
        IN conn' = [conn EXCEPT ![k].st = IF open THEN "noEnd" ELSE "end"]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

\* The token of the latest attachment, by the server's own description (C4).
Tested(s) == IF Mut = "TokenByPath" THEN tokenPath ELSE srv[s].tok
Passes(k) == TokenFree(Tested(conn[k].s)) \/ (Mut = "GrantOnEOF" /\ conn[k].st = "end")

AdmissionRefused(k) ==
  /\ conn[k].st \in {"greeted", "noEnd", "end"}
  /\ LET s == conn[k].s
         busy == conn[k].st # "greeted" /\ ~TokenFree(Tested(s))
         deadline == conn[k].c = None \/ frozen # {} \/ Stuck(Tested(s)) \/ Mut = "RefuseAlways"
         excused == frozen # {} \/ HasCopy(Tested(s)) \/ (HasFormer(Tested(s)) /\ srv[s].cur # 0)
     IN /\ Runs(s)
        /\ IsClosing(s) \/ (busy /\ (conn[k].st = "noEnd" \/ deadline))
        /\ bad' = bad \union Fail(~IsClosing(s) /\ conn[k].st = "end" /\ conn[k].c # None /\ ~excused, "L7")
  /\ conn' = Refuse(conn, k)
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time>>

\* The end of attachment f is proven and its account taken: what the server
\* says of it, against what it was.
Verdict(s, f) == IF mem[srv[s].mem].cbye = conn[f].num THEN "closed" ELSE "died"
Settled(s, f, silence) ==
  LET in == mem[srv[s].mem].cin = conn[f].num
      told == srv[s].ready \/ (in /\ Mut # "NumberAtReady")
      verdict == IF silence THEN "died" ELSE Verdict(s, f)
  IN bad \union Fail(told /\ verdict # conn[f].fate /\ conn[f].st # "expelled", "L5")
         \union Fail(~told /\ in, "L6")
         \union Fail(\E c \in Clients : cli[c].mem = srv[s].mem, "L7")
Unattached(r) == [r EXCEPT !.cur = 0, !.ready = FALSE, !.hung = FALSE]

\* What was found free once is not looked at again: a former client may have locked
\* it since.
Proved(r) == IF Mut = "TestsAgain" THEN r ELSE [r EXCEPT !.tok = 0]
ShutProven(s) == IF Mut = "TestsAgain" THEN byte1 ELSE Shut(s)

\* The one place where the token is tested for a newcomer (C3): the former's end
\* first. Its reader is woken, for its socket may be open still.
FormerSettled(k) ==
  /\ conn[k].st \in {"noEnd", "end"} /\ Mut # "AdmitBeforeSettle"
  /\ LET s == conn[k].s
         f == srv[s].cur
     IN /\ Runs(s) /\ ~IsClosing(s)
        /\ f # 0 /\ Passes(k)
        /\ bad' = Settled(s, f, FALSE)
        /\ srv' = [srv EXCEPT ![s] = Proved(Unattached(@))]
        /\ byte1' = ShutProven(s)
        /\ conn' = [j \in Conns |->
             IF j = k THEN [conn[k] EXCEPT !.st = "settled"]
             ELSE IF j # f THEN conn[j]
             ELSE IF conn[f].st = "watch" /\ Mut # "FormerNotWoken"
                  THEN [conn[f] EXCEPT !.st = "endSeen", !.toS = None, !.tok = InFlight(f)]
                  ELSE [conn[f] EXCEPT !.tok = InFlight(f)]]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, token, kept, record, path, memory, cli, time>>

\* A token file of this attachment's own, at P.token.
TokenTaken(k) ==
  /\ LET s == conn[k].s
         i == IF Mut = "SharedToken" /\ tokenPath # 0 THEN tokenPath ELSE Fresh
     IN /\ conn[k].st \in {"noEnd", "end", "settled"}
        /\ Runs(s)
        /\ conn[k].st # "settled" =>
             ~IsClosing(s) /\ Passes(k) /\ (srv[s].cur = 0 \/ Mut = "AdmitBeforeSettle")
        /\ conn' = [conn EXCEPT ![k].copy = TRUE, ![k].tok = i, ![k].st = "taken"]
        /\ tokenPath' = IF Mut = "NamedLate" THEN tokenPath ELSE i
        /\ byte1' = [Shut(s) EXCEPT ![i] = @ \union {s}]
        /\ srv' = [srv EXCEPT ![s].tok = i]
  /\ UNCHANGED <<left, lockPath, byte0, token, kept, record, path, memory, cli, time, bad>>

ClientRecorded(k) ==
  /\ conn[k].st = "taken"
  /\ Runs(conn[k].s)
  /\ record' = [record EXCEPT ![srv[conn[k].s].ino].client = IF Mut = "NoRecord" THEN @ ELSE conn[k].c]
  /\ conn' = [conn EXCEPT ![k].st = "recorded"]
  /\ UNCHANGED <<left, lockPath, byte0, tokens, path, memory, srv, cli, time, bad>>

GrantSent(k) ==
  /\ conn[k].st = "recorded"
  /\ LET s == conn[k].s IN
     /\ Runs(s) /\ ~IsClosing(s) /\ conn[k].c # None
     /\ conn' = [conn EXCEPT ![k].st = "granted", ![k].toC = IF Mut = "NoToken" THEN "bare" ELSE "grant",
                             ![k].num = srv[s].num + 1, ![k].mem = srv[s].mem]
     /\ srv' = [srv EXCEPT ![s].cur = k, ![s].num = IF Mut = "NumberAtReady" THEN @ ELSE @ + 1]
     /\ bad' = bad \union Fail(srv[s].cur # 0, "L7")
  /\ UNCHANGED <<left, locks, path, memory, cli, time>>

\* Close has begun, or the client is gone: the token's only copy is closed.
AdmissionGivenUp(k) ==
  /\ conn[k].st = "recorded"
  /\ Runs(conn[k].s)
  /\ IsClosing(conn[k].s) \/ conn[k].c = None
  /\ conn' = Refuse(conn, k)
  /\ srv' = [srv EXCEPT ![conn[k].s].tok = 0]
  /\ byte1' = Shut(conn[k].s)
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, token, kept, record, path, memory, cli, time, bad>>

TokenHandedOver(k) ==
  /\ conn[k].st = "granted"
  /\ Runs(conn[k].s)
  /\ conn' = [conn EXCEPT ![k].st = "watch", ![k].copy = FALSE]
  /\ token' = IF Mut = "KeepsCopy" THEN [token EXCEPT ![conn[k].tok] = @ \union {conn[k].s}] ELSE token
  /\ tokenPath' = IF Mut = "NamedLate" THEN conn[k].tok ELSE tokenPath
  /\ UNCHANGED <<left, lockPath, byte0, byte1, kept, record, path, memory, srv, cli, time, bad>>

ReadyReceived(k) ==
  /\ conn[k].st = "watch" /\ conn[k].toS = "ready"
  /\ LET s == conn[k].s IN
     /\ Runs(s)
     /\ conn' = [conn EXCEPT ![k].toS = None]
     /\ srv' = IF srv[s].cur = k
               THEN [srv EXCEPT ![s].ready = TRUE, ![s].num = conn[k].num]
               ELSE srv
  /\ UNCHANGED <<left, locks, path, memory, cli, time, bad>>

\* The end of the socket, or of the process where a copy has the socket too.
EndSeen(k) ==
  /\ conn[k].st = "watch"
  /\ Runs(conn[k].s)
  /\ \/ conn[k].c = None /\ conn[k].toS = None /\ (HasCopy(conn[k].tok) => ClientExited(k))
     \/ IsClosing(conn[k].s) /\ srv[conn[k].s].cur = k
  /\ conn' = [conn EXCEPT ![k].st = "endSeen"]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

\* A corrupt client is told, and its connection ended both ways; it lives.
Expelled(k) ==
  /\ conn[k].st = "watch" /\ left.expel > 0
  /\ LET s == conn[k].s
         c == conn[k].c IN
     /\ Runs(s) /\ ~IsClosing(s) /\ srv[s].cur = k /\ srv[s].ready
     /\ conn' = [conn EXCEPT ![k].st = "expelled", ![k].toC = IF c = None THEN @ ELSE "refuse"]
     /\ cli' = [d \in Clients |-> IF d = c THEN [cli[d] EXCEPT !.sfate = "closed"] ELSE cli[d]]
  /\ left' = [left EXCEPT !.expel = @ - 1]
  /\ UNCHANGED <<locks, path, memory, srv, time, bad>>

Over(r) == IF Mut = "StaysCurrent" THEN r ELSE Unattached(r)

\* The socket's end is the wake-up; the proof is the free token, or that the process
\* has exited. Then a copy may have the token, which newcomers are to wait for.
EndProven(k) ==
  /\ conn[k].st \in {"endSeen", "expelled"}
  /\ LET s == conn[k].s
         free == TokenFree(conn[k].tok)
         proven == free \/ (ClientExited(k) /\ Mut # "TokenAlone")
     IN /\ Runs(s) /\ ~IsClosing(s)
        /\ IF srv[s].cur # k
           THEN conn' = ServerEnd(conn, k) /\ UNCHANGED <<srv, byte1, bad>>
           ELSE \/ /\ proven
                   /\ bad' = Settled(s, k, FALSE)
                   /\ srv' = [srv EXCEPT ![s] = IF free THEN Proved(Over(@)) ELSE Over(@)]
                   /\ byte1' = IF free THEN ShutProven(s) ELSE byte1
                   /\ conn' = ServerEnd(conn, k)
                \/ /\ Mut = "OneAttempt" /\ ~proven
                   /\ conn' = [conn EXCEPT ![k].st = "gaveUp"]
                   /\ UNCHANGED <<srv, byte1, bad>>
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, token, kept, record, path, memory, cli, time>>

-----------------------------------------------------------------------------
(* Close of the server (C2).                                               *)

CloseBegun(s) ==
  /\ At(s, "serving") /\ left.closeS > 0
  /\ left' = [left EXCEPT !.closeS = @ - 1]
  /\ srv' = [srv EXCEPT ![s].pc = "closing", ![s].lis = "shut"]
  /\ byte0' = IF Mut = "Byte0First" THEN [byte0 EXCEPT ![srv[s].ino] = None] ELSE byte0
  /\ UNCHANGED <<lockPath, record, tokens, path, memory, cli, conn, time, bad>>

PathUnlinked(s) ==
  /\ At(s, IF Mut = "UnlinkLate" THEN "unlocked" ELSE "closing")
  /\ path' = IF path = s \/ Mut = "UnlinkLate" THEN None ELSE path
  /\ srv' = IF Mut = "UnlinkLate" THEN [srv EXCEPT ![s] = SrvInit] ELSE [srv EXCEPT ![s].pc = "unlinked"]
  /\ UNCHANGED <<left, locks, memory, cli, conn, time, bad>>

ListenerClosed(s) ==
  /\ At(s, IF Mut = "UnlinkLate" THEN "closing" ELSE "unlinked")
  /\ srv' = [srv EXCEPT ![s].pc = "lisClosed", ![s].lis = "no"]
  /\ path' = Unnamed(path, s)
  /\ conn' = ServerEnds(conn, Backlog(s))
  /\ UNCHANGED <<left, locks, memory, cli, time, bad>>

\* What a server's end was is fixed for its clients by its goodbye or its death.
Told(s, how) == [c \in Clients |->
  IF cli[c].k # 0 /\ cli[c].sfate = None
  THEN IF conn[cli[c].k].s = s THEN [cli[c] EXCEPT !.sfate = how] ELSE cli[c]
  ELSE cli[c]]

ServerGoodbyeSaid(s) ==
  /\ At(s, "lisClosed")
  /\ mem' = [mem EXCEPT ![srv[s].mem].bye = mem[srv[s].mem].gen]
  /\ cli' = Told(s, "closed")
  /\ ToS(s, "bye")
  /\ UNCHANGED <<left, locks, path, made, conn, time, bad>>

\* When every goroutine has ended.
ServerConnectionClosed(s) ==
  /\ At(s, "bye")
  /\ \A k \in AllOf(s) : conn[k].st \in {"endSeen", "expelled", "gaveUp"}
  /\ conn' = ServerEnds(conn, AllOf(s))
  /\ srv' = [srv EXCEPT ![s].pc = "connClosed", ![s].cur = 0, ![s].ready = FALSE, ![s].hung = FALSE]
  /\ UNCHANGED <<left, locks, path, memory, cli, time, bad>>

\* Free, or given up: a client is frozen, or slow, or somebody else has the token.
TokenAwaited(s) ==
  /\ At(s, "connClosed")
  /\ LET free == TokenFree(srv[s].tok)
         slow == ~free /\ frozen = {} /\ ~Stuck(srv[s].tok)
     IN /\ \/ free
           \/ Mut # "NoCloseDeadline" /\ (~slow \/ left.timeout > 0)
           \/ Mut = "AwaitsEndOnly"
        /\ left' = [left EXCEPT !.timeout = IF slow /\ @ > 0 THEN @ - 1 ELSE @]
        /\ bad' = bad \union Fail(slow /\ left.timeout = 0, "L8")
  /\ ToS(s, "awaited")
  /\ UNCHANGED <<locks, path, memory, cli, conn, time>>

\* A killed client's number means nobody any more.
Dead(c) ==
  /\ cli' = [cli EXCEPT ![c].pc = "dying", ![c].mem = 0, ![c].sfate = None, ![c].hung = FALSE]
  /\ conn' = [conn EXCEPT ![cli[c].k].fate = IF @ = None THEN "died" ELSE @]
  /\ record' = [i \in Ino |-> [record[i] EXCEPT !.client = IF @ = c THEN None ELSE @]]
  /\ frozen' = frozen \ {c} /\ silent' = [silent EXCEPT ![c] = 0]
  /\ UNCHANGED <<lockPath, byte0, tokens, path, memory, srv, bad>>

\* Options.KillOnClose: by the pidfd of the one that was let in.
MustKill(s) ==
  /\ KillOnClose /\ At(s, "awaited")
  /\ ~TokenFree(srv[s].tok) /\ record[srv[s].ino].client # None
  /\ cli[record[srv[s].ino].client].pc \notin {"idle", "dying"}

ClientKilled(s) ==
  /\ MustKill(s) /\ Dead(record[srv[s].ino].client)
  /\ UNCHANGED left

\* After a kill, too, it waits for the token and then gives up.
ServerSegmentUnmapped(s) ==
  /\ At(s, "awaited")
  /\ ~MustKill(s)
  /\ ToS(s, "unmapped")
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

ServerUnlocked(s) ==
  /\ At(s, "unmapped")
  /\ byte0' = [byte0 EXCEPT ![srv[s].ino] = IF @ = s /\ Mut # "ClosesOnly" THEN None ELSE @]
  /\ byte1' = Shut(s)
  /\ srv' = IF Mut = "UnlinkLate" THEN [srv EXCEPT ![s].pc = "unlocked", ![s].tok = 0] ELSE [srv EXCEPT ![s] = SrvInit]
  /\ UNCHANGED <<left, lockPath, tokenPath, token, kept, record, path, memory, cli, conn, time, bad>>

-----------------------------------------------------------------------------
(* Dial.                                                                   *)

FreeConns == {k \in Conns : conn[k].st = "free"}
NewConn == CHOOSE k \in FreeConns : \A j \in FreeConns : k <= j

Connected(c) ==
  /\ AtC(c, "idle")
  /\ Answers(path) /\ FreeConns # {}
  /\ conn' = [conn EXCEPT ![NewConn] = [ConnInit EXCEPT !.s = path, !.c = c, !.st = "backlog"]]
  /\ cli' = [cli EXCEPT ![c].pc = "connected", ![c].k = NewConn]
  /\ UNCHANGED <<left, locks, path, memory, srv, time, bad>>

HelloSent(c) ==
  /\ AtC(c, "connected")
  /\ conn' = [conn EXCEPT ![cli[c].k].toS = IF conn[cli[c].k].st = "shut" THEN None ELSE "hello"]
  /\ ToC(c, "hello")
  /\ UNCHANGED <<left, locks, path, memory, srv, time, bad>>

\* Refused, or the connection is at its end, or nobody answers in time.
DialFailed(c) ==
  /\ AtC(c, "hello")
  /\ LET k == cli[c].k
         slow == conn[k].st # "shut" /\ ~(conn[k].s \in frozen)
     IN /\ \/ conn[k].toC = "refuse"
           \/ conn[k].st = "shut" /\ conn[k].toC = None
           \/ conn[k].s \in frozen
           \/ slow /\ left.timeout > 0
        /\ left' = [left EXCEPT !.timeout = IF slow THEN @ - 1 ELSE @]
        /\ conn' = ClientEnd(Leaves([conn EXCEPT ![k].fate = IF @ = None THEN "left" ELSE @], k), k)
  /\ cli' = [cli EXCEPT ![c] = CliInit]
  /\ UNCHANGED <<locks, path, memory, srv, time, bad>>

GrantReceived(c) ==
  /\ AtC(c, "hello")
  /\ LET k == cli[c].k IN
     /\ conn[k].toC \in {"grant", "bare"}
     /\ \E whole \in {TRUE} \union (IF Mut = "TakesTruncated" THEN {FALSE} ELSE {}) :
          token' = IF conn[k].toC = "grant" /\ whole THEN [token EXCEPT ![conn[k].tok] = @ \union {c}] ELSE token
     /\ conn' = [conn EXCEPT ![k].toC = None, ![k].tok = IF conn[k].st = "shut" THEN 0 ELSE @]
     /\ cli' = [cli EXCEPT ![c].pc = "granted", ![c].tok = conn[k].tok]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, time, bad>>

SegmentsMapped(c) ==
  /\ AtC(c, "granted")
  /\ cli' = [cli EXCEPT ![c].pc = "mapped", ![c].mem = conn[cli[c].k].mem]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

\* From here on it may send: whoever settles it must tell of it.
AttachmentStored(c) ==
  /\ AtC(c, "mapped")
  /\ mem' = [mem EXCEPT ![cli[c].mem].cin = conn[cli[c].k].num]
  /\ ToC(c, "stored")
  /\ UNCHANGED <<left, locks, path, made, srv, conn, time, bad>>

ReadySent(c) ==
  /\ AtC(c, "stored")
  /\ ~Ended(cli[c].k)
  /\ conn' = [conn EXCEPT ![cli[c].k].toS = "ready"]
  /\ ToC(c, "attached")
  /\ UNCHANGED <<left, locks, path, memory, srv, time, bad>>

\* The server went away during the handshake.
ReadyFailed(c) ==
  /\ AtC(c, "stored")
  /\ Ended(cli[c].k)
  /\ cli' = [cli EXCEPT ![c].pc = "unmapped", ![c].mem = 0, ![c].sfate = None]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

ClientEndSeen(c) ==
  /\ AtC(c, "attached")
  /\ Ended(cli[c].k)
  /\ ToC(c, "endSeen")
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

\* Goodbye was said; or the server's byte of the own token file is free, or its
\* process has exited. Byte 0 of P.lock would prove nothing: the next server may hold
\* it, while it waits for this client's token.
ClientEndProven(c) ==
  /\ AtC(c, "endSeen")
  /\ LET m == cli[c].mem
         bye == mem[m].bye = mem[m].gen \/ conn[cli[c].k].toC = "refuse"
         holder == byte0[mem[m].ino]
         free == IF Mut = "DeathByByte0" THEN holder = None
                 ELSE byte1[cli[c].tok] = {} \/ (ServerExited(m) /\ Mut # "TokenAlone")
         late == IF Mut = "DeathByByte0" /\ holder # None THEN srv[holder].pc # "dying" ELSE FALSE
         verdict == IF bye THEN "closed" ELSE IF free THEN "died" ELSE "closed"
     IN /\ bye \/ free \/ late
        /\ bad' = bad \union Fail(verdict # cli[c].sfate, "L5")
  /\ cli' = [cli EXCEPT ![c].pc = "over", ![c].sfate = None, ![c].hung = FALSE]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time>>

-----------------------------------------------------------------------------
(* Close of the client (C1), of its own will or after its server's end     *)
(* (C9: before it dials again).                                            *)

GoodbyeSaid(c) ==
  /\ \/ (AtC(c, "attached") \/ AtC(c, "endSeen")) /\ left.closeC > 0 \* it looks for no proof any more
     \/ AtC(c, "over") /\ (Mut = "HoldsWhileRedialing" => Answers(path))
  /\ LET k == cli[c].k IN
     /\ left' = [left EXCEPT !.closeC = IF cli[c].pc = "over" THEN @ ELSE @ - 1]
     /\ mem' = [mem EXCEPT ![cli[c].mem].cbye = IF cli[c].pc = "over" \/ Mut = "NoGoodbye" THEN @ ELSE conn[k].num]
     /\ conn' = [conn EXCEPT ![k].fate = IF cli[c].pc = "over" \/ conn[k].st = "shut" THEN @ ELSE "closed"]
  /\ cli' = [cli EXCEPT ![c].pc = "bye", ![c].sfate = None, ![c].hung = FALSE]
  /\ UNCHANGED <<locks, path, made, srv, time, bad>>

SegmentUnmapped(c) ==
  /\ AtC(c, IF Mut = "UnmapLast" THEN "tokenClosed" ELSE "bye")
  /\ cli' = [cli EXCEPT ![c].pc = "unmapped", ![c].mem = 0]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

\* Unlocked, and then closed: the lock is free whoever has a copy, such as the
\* server that has not handed over its own, or the kernel that has not closed that
\* of a dead one. The mutant closes only, beside a child that is just being started
\* and has copies of everything.
Unlocks(c) ==
  /\ token' = [token EXCEPT ![cli[c].tok] = @ \intersect {Former}]
  /\ conn' = [conn EXCEPT ![cli[c].k].copy = FALSE]
TokenClosed(c) ==
  /\ AtC(c, IF Mut = "UnmapLast" THEN "bye" ELSE "unmapped")
  /\ IF c \notin token[cli[c].tok] \/ Mut = "ClosesOnly" THEN UNCHANGED <<token, conn>> ELSE Unlocks(c)
  /\ cli' = [cli EXCEPT ![c].pc = "tokenClosed", ![c].tok = 0]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, time, bad>>

\* Unlocked, and kept; the same for whoever has a copy of it.
TokenKept(c) ==
  /\ AtC(c, "unmapped") /\ left.former > 0
  /\ c \in token[cli[c].tok]
  /\ left' = [left EXCEPT !.former = @ - 1]
  /\ token' = [token EXCEPT ![cli[c].tok] = @ \intersect {Former}]
  /\ kept' = kept \union {cli[c].tok}
  /\ conn' = [conn EXCEPT ![cli[c].k].copy = FALSE, ![cli[c].k].gone = IF conn[cli[c].k].st = "shut" THEN @ ELSE "keeps"]
  /\ cli' = [cli EXCEPT ![c].pc = "tokenClosed", ![c].tok = 0]
  /\ UNCHANGED <<lockPath, byte0, tokenPath, byte1, record, path, memory, srv, time, bad>>

ConnectionClosed(c) ==
  /\ AtC(c, IF Mut = "UnmapLast" THEN "unmapped" ELSE "tokenClosed")
  /\ conn' = ClientEnd(Leaves(conn, cli[c].k), cli[c].k)
  /\ cli' = [cli EXCEPT ![c] = CliInit]
  /\ UNCHANGED <<left, locks, path, memory, srv, time, bad>>

-----------------------------------------------------------------------------
(* Death.  The mappings go first; then descriptors, in any order.          *)

KillServer(s) ==
  /\ Lives(s) /\ left.killS > 0
  /\ left' = [left EXCEPT !.killS = @ - 1]
  /\ srv' = [srv EXCEPT ![s].pc = "dying", ![s].ready = FALSE, ![s].cur = 0, ![s].hung = FALSE, ![s].num = 0]
  /\ cli' = Told(s, "died")
  /\ frozen' = frozen \ {s} /\ silent' = [silent EXCEPT ![s] = 0]
  /\ UNCHANGED <<locks, path, memory, conn, bad>>

KillClient(c) ==
  /\ cli[c].pc \notin {"idle", "dying"} /\ left.killC > 0
  /\ left' = [left EXCEPT !.killC = @ - 1]
  /\ Dead(c)

\* The supervisor's policy, by pidfd.
HungClientKilled(s) ==
  /\ KillHung /\ At(s, "serving") /\ srv[s].hung
  /\ conn[srv[s].cur].c \in Clients
  /\ LET c == conn[srv[s].cur].c IN cli[c].pc \notin {"idle", "dying"} /\ Dead(c)
  /\ UNCHANGED left

\* Listen may kill whom the lock file names, if nobody else can (C6).
OrphanKilled(s) ==
  /\ KillOrphan /\ At(s, "locked0") /\ ~TokenFree(tokenPath)
  /\ record[srv[s].ino].client \in frozen
  /\ LET c == record[srv[s].ino].client IN cli[c].pc \notin {"idle", "dying"} /\ Dead(c)
  /\ UNCHANGED left

\* When the last descriptor of a dead server is closed it can start again.
Gone(s, r, b0, tk, b1, cn) ==
  IF /\ b0[r.ino] # s /\ r.lis = "no"
     /\ \A i \in Toks : s \notin tk[i] \union b1[i]
     /\ \A k \in Conns : cn[k].s # s
  THEN SrvInit ELSE r
HoldsTokens(s) == \E i \in Toks : s \in token[i] \union byte1[i]

\* Byte 0, and the bytes of token files at the latest then: where they come later a
\* client only waits longer for its proof.
KernelFreesLocks(s) ==
  /\ srv[s].pc = "dying"
  /\ byte0[srv[s].ino] = s \/ (~HoldsTokens(s) /\ srv[s].lis = "no" /\ AllOf(s) = {})
  /\ byte0' = [byte0 EXCEPT ![srv[s].ino] = IF @ = s THEN None ELSE @]
  /\ token' = [i \in Toks |-> token[i] \ {s}]
  /\ byte1' = Shut(s)
  /\ srv' = [srv EXCEPT ![s] = Gone(s, [@ EXCEPT !.tok = 0], byte0', token', byte1', conn)]
  /\ UNCHANGED <<left, lockPath, tokenPath, kept, record, path, memory, cli, conn, time, bad>>

\* Its byte of its client's token file, or the token that it has taken for Listen.
KernelFreesServerByte(s) ==
  /\ srv[s].pc = "dying" /\ HoldsTokens(s)
  /\ token' = [i \in Toks |-> token[i] \ {s}]
  /\ byte1' = Shut(s)
  /\ srv' = [srv EXCEPT ![s] = Gone(s, [@ EXCEPT !.tok = 0], byte0, token', byte1', conn)]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, kept, record, path, memory, cli, conn, time, bad>>

KernelFreesCopy(s) ==
  /\ srv[s].pc = "dying"
  /\ \E k \in AllOf(s) : conn[k].copy /\ conn' = [conn EXCEPT ![k].copy = FALSE]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, time, bad>>

\* Before or behind the connections: a client whose connection has ended can still
\* find its server listening.
KernelClosesListener(s) ==
  /\ srv[s].pc = "dying" /\ srv[s].lis # "no"
  /\ conn' = ServerEnds(conn, Backlog(s))
  /\ path' = Unnamed(path, s)
  /\ srv' = [srv EXCEPT ![s] = Gone(s, [@ EXCEPT !.lis = "no"], byte0, token, byte1, conn')]
  /\ UNCHANGED <<left, locks, memory, cli, time, bad>>

KernelClosesSocket(s) ==
  /\ srv[s].pc = "dying"
  /\ \E k \in AllOf(s) \ Backlog(s) :
       /\ conn' = ServerEnd(conn, k)
       /\ token' = IF conn[k].copy THEN [token EXCEPT ![conn[k].tok] = @ \union {s}] ELSE token \* the copy outlives the socket
       /\ srv' = [srv EXCEPT ![s] = Gone(s, @, byte0, token', byte1, conn')]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, cli, time, bad>>

KernelFreesToken(c) ==
  /\ cli[c].pc = "dying" /\ cli[c].tok # 0
  /\ token' = [token EXCEPT ![cli[c].tok] = IF Mut = "ForkKeepsToken" THEN @ ELSE @ \ {c}]
  /\ cli' = [cli EXCEPT ![c] = IF @.k = 0 THEN CliInit ELSE [@ EXCEPT !.tok = 0]]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, conn, time, bad>>

KernelClosesConnection(c) ==
  /\ cli[c].pc = "dying" /\ cli[c].k # 0
  /\ conn' = ClientEnd(conn, cli[c].k)
  /\ cli' = [cli EXCEPT ![c] = IF @.tok = 0 THEN CliInit ELSE [@ EXCEPT !.k = 0]]
  /\ UNCHANGED <<left, locks, path, memory, srv, time, bad>>

-----------------------------------------------------------------------------
(* Freezing, time and the heartbeat.  A tick is one heartbeat interval:    *)
(* whoever runs beats and judges in it, so time does not pass a judgement  *)
(* that is due (L6).                                                       *)

Freeze(p) ==
  /\ p \in FreezeWho \ frozen /\ left.freeze > 0
  /\ IF p \in Servers THEN Lives(p) ELSE cli[p].pc \notin {"idle", "dying"}
  /\ left' = [left EXCEPT !.freeze = @ - 1]
  /\ frozen' = frozen \union {p}
  /\ UNCHANGED <<locks, path, memory, srv, cli, conn, silent, bad>>

Thaw(p) ==
  /\ p \in frozen
  /\ frozen' = frozen \ {p} /\ silent' = [silent EXCEPT ![p] = 0]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, conn, bad>>

\* The client that the server has let in; the server of an attached client.
ClientOf(s) == IF srv[s].cur = 0 THEN None ELSE conn[srv[s].cur].c
ServerOf(c) == IF cli[c].pc = "attached" THEN conn[cli[c].k].s ELSE None
WatchedClients == {ClientOf(s) : s \in {t \in Servers : Serves(t) /\ Up(t)}} \ {None}
WatchedServers == {ServerOf(c) : c \in {d \in Clients : Up(d)}} \ {None}
Watched == frozen \intersect (WatchedClients \union WatchedServers)

HangOfClient(s) ==
  IF Serves(s) /\ Up(s) /\ ClientOf(s) \in frozen /\ ~srv[s].hung
  THEN silent[ClientOf(s)] >= HangTicks /\ (Mut = "HangWhenReadyOnly" => srv[s].ready) ELSE FALSE
HangOfServer(c) ==
  IF Up(c) /\ ServerOf(c) \in frozen /\ ~cli[c].hung THEN silent[ServerOf(c)] >= HangTicks ELSE FALSE

Tick ==
  /\ \E p \in Watched : silent[p] <= HangTicks
  /\ ~\E s \in Servers : HangOfClient(s)
  /\ ~\E c \in Clients : HangOfServer(c)
  /\ silent' = [p \in Proc |-> IF p \in Watched /\ silent[p] <= HangTicks THEN silent[p] + 1 ELSE silent[p]]
  /\ UNCHANGED <<left, locks, path, memory, srv, cli, conn, frozen, bad>>

ClientHung(s) ==
  /\ HangOfClient(s)
  /\ IF Mut = "DiedOnSilence"
     THEN /\ bad' = Settled(s, srv[s].cur, TRUE)
          /\ srv' = [srv EXCEPT ![s] = Unattached(@)]
     ELSE /\ srv' = [srv EXCEPT ![s].hung = TRUE] /\ UNCHANGED bad
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time>>

ServerHung(c) ==
  /\ HangOfServer(c)
  /\ cli' = [cli EXCEPT ![c].hung = TRUE]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

ClientRecovered(s) ==
  /\ Serves(s) /\ Up(s) /\ srv[s].hung /\ ClientOf(s) \in Clients \ frozen
  /\ srv' = [srv EXCEPT ![s].hung = FALSE]
  /\ UNCHANGED <<left, locks, path, memory, cli, conn, time, bad>>

ServerRecovered(c) ==
  /\ Up(c) /\ cli[c].hung /\ ServerOf(c) \in Servers \ frozen
  /\ cli' = [cli EXCEPT ![c].hung = FALSE]
  /\ UNCHANGED <<left, locks, path, memory, srv, conn, time, bad>>

LockFileDeleted ==
  /\ left.delete > 0 /\ lockPath # 0
  /\ left' = [left EXCEPT !.delete = @ - 1]
  /\ lockPath' = 0
  /\ UNCHANGED <<byte0, record, tokens, path, memory, srv, cli, conn, time, bad>>

TokenFileDeleted ==
  /\ left.tdelete > 0 /\ tokenPath # 0
  /\ left' = [left EXCEPT !.tdelete = @ - 1]
  /\ tokenPath' = 0
  /\ UNCHANGED <<lockPath, byte0, token, byte1, kept, record, path, memory, srv, cli, conn, time, bad>>

-----------------------------------------------------------------------------
(* Copies of descriptors, and former clients.                              *)

TokenCopied(c) ==
  /\ cli[c].pc \notin {"idle", "dying"} /\ Up(c) /\ left.copy > 0
  /\ IF cli[c].tok = 0 THEN FALSE ELSE c \in token[cli[c].tok]
  /\ left' = [left EXCEPT !.copy = @ - 1]
  /\ token' = [token EXCEPT ![cli[c].tok] = @ \union {Copy}]
  /\ UNCHANGED <<lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, cli, conn, time, bad>>

ServerByteCopied(s) ==
  /\ At(s, "serving") /\ srv[s].cur # 0 /\ srv[s].tok # 0 /\ left.copy > 0
  /\ left' = [left EXCEPT !.copy = @ - 1]
  /\ byte1' = [byte1 EXCEPT ![srv[s].tok] = @ \union {Copy}]
  /\ UNCHANGED <<lockPath, byte0, tokenPath, token, kept, record, path, memory, srv, cli, conn, time, bad>>

CopyEnded(i) ==
  /\ Copy \in token[i] \union byte1[i]
  /\ token' = [token EXCEPT ![i] = @ \ {Copy}]
  /\ byte1' = [byte1 EXCEPT ![i] = @ \ {Copy}]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, kept, record, path, memory, srv, cli, conn, time, bad>>

\* It can only read the file: so its is a read lock, and a server's that starts is not.
FormerLocked(i) ==
  /\ i \in kept /\ Former \notin token[i]
  /\ token[i] \intersect Servers = {}
  /\ token' = [token EXCEPT ![i] = @ \union {Former}]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, cli, conn, time, bad>>

FormerUnlocked(i) ==
  /\ Former \in token[i]
  /\ token' = [token EXCEPT ![i] = @ \ {Former}]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, kept, record, path, memory, srv, cli, conn, time, bad>>

FormerEnded(i) ==
  /\ i \in kept
  /\ kept' = kept \ {i}
  /\ token' = [token EXCEPT ![i] = @ \ {Former}]
  /\ UNCHANGED <<left, lockPath, byte0, tokenPath, byte1, record, path, memory, srv, cli, conn, time, bad>>

-----------------------------------------------------------------------------
Next ==
  \/ \E s \in Servers :
       \/ LockFileOpened(s) \/ ServerLocked(s) \/ ServerRunning(s) \/ TokenLocked(s) \/ ClientRunning(s)
       \/ StaleProbed(s) \/ GenerationRecorded(s) \/ ServerSegmentMade(s) \/ ClientSegmentMade(s)
       \/ StaleUnlinked(s) \/ SocketBound(s) \/ SocketListening(s) \/ LockFileRechecked(s) \/ TokenReturned(s)
       \/ Abandoned(s)
       \/ CloseBegun(s) \/ PathUnlinked(s) \/ ListenerClosed(s) \/ ServerGoodbyeSaid(s) \/ ServerConnectionClosed(s)
       \/ TokenAwaited(s) \/ ClientKilled(s) \/ ServerSegmentUnmapped(s) \/ ServerUnlocked(s)
       \/ KillServer(s) \/ HungClientKilled(s) \/ OrphanKilled(s)
       \/ KernelFreesLocks(s) \/ KernelFreesServerByte(s) \/ KernelFreesCopy(s)
       \/ KernelClosesListener(s) \/ KernelClosesSocket(s) \/ ServerByteCopied(s)
       \/ ClientHung(s) \/ ClientRecovered(s)
  \/ \E k \in Conns :
       \/ ConnectionAccepted(k) \/ HelloReceived(k) \/ HandshakeEnded(k) \/ AdmissionBegun(k) \/ TokenTaken(k)
       \/ AdmissionRefused(k) \/ FormerSettled(k) \/ ClientRecorded(k) \/ GrantSent(k) \/ AdmissionGivenUp(k)
       \/ TokenHandedOver(k) \/ ReadyReceived(k) \/ EndSeen(k) \/ Expelled(k) \/ EndProven(k)
  \/ \E c \in Clients :
       \/ Connected(c) \/ HelloSent(c) \/ DialFailed(c) \/ GrantReceived(c) \/ SegmentsMapped(c) \/ AttachmentStored(c) \/ ReadySent(c)
       \/ ReadyFailed(c) \/ ClientEndSeen(c) \/ ClientEndProven(c)
       \/ GoodbyeSaid(c) \/ SegmentUnmapped(c) \/ TokenClosed(c) \/ TokenKept(c) \/ ConnectionClosed(c) \/ TokenCopied(c)
       \/ KillClient(c) \/ KernelFreesToken(c) \/ KernelClosesConnection(c)
       \/ ServerHung(c) \/ ServerRecovered(c)
  \/ \E p \in Proc : Freeze(p) \/ Thaw(p)
  \/ \E i \in Toks : CopyEnded(i) \/ FormerLocked(i) \/ FormerUnlocked(i) \/ FormerEnded(i)
  \/ Tick \/ LockFileDeleted \/ TokenFileDeleted

Spec == Init /\ [][Next]_vars

(* What happens in the end: running processes go on, the kernel closes what *)
(* the dead held, whoever owes an answer gives it.  Nobody must die, close, *)
(* freeze, or time out; who thaws and who comes back is a constant.        *)
CloseTimesOut(s) == srv[s].pc = "connClosed" /\ ~TokenFree(srv[s].tok) /\ frozen = {} /\ ~Stuck(srv[s].tok)
ServerStep(s) ==
  \/ LockFileOpened(s) \/ ServerLocked(s) \/ ServerRunning(s) \/ TokenLocked(s) \/ ClientRunning(s)
  \/ StaleProbed(s) \/ GenerationRecorded(s) \/ ServerSegmentMade(s) \/ ClientSegmentMade(s)
  \/ StaleUnlinked(s) \/ SocketBound(s) \/ SocketListening(s) \/ LockFileRechecked(s) \/ TokenReturned(s)
  \/ Abandoned(s)
  \/ PathUnlinked(s) \/ ListenerClosed(s) \/ ServerGoodbyeSaid(s) \/ ServerConnectionClosed(s)
  \/ (~CloseTimesOut(s) /\ TokenAwaited(s)) \/ ClientKilled(s) \/ ServerSegmentUnmapped(s) \/ ServerUnlocked(s)
HandshakeStep(k) == HelloReceived(k) \/ HandshakeEnded(k)
AdmissionStep(k) ==
  \/ AdmissionBegun(k) \/ TokenTaken(k) \/ AdmissionRefused(k) \/ FormerSettled(k) \/ ClientRecorded(k)
  \/ GrantSent(k) \/ AdmissionGivenUp(k) \/ TokenHandedOver(k)
WatchStep(k) == ReadyReceived(k) \/ EndSeen(k) \/ EndProven(k)
DialTimesOut(c) == cli[c].pc = "hello" /\ left.timeout > 0 /\ conn[cli[c].k].st # "shut" /\ ~(conn[cli[c].k].s \in frozen)
ClientStep(c) ==
  \/ HelloSent(c) \/ (~DialTimesOut(c) /\ DialFailed(c)) \/ GrantReceived(c) \/ SegmentsMapped(c) \/ AttachmentStored(c) \/ ReadySent(c)
  \/ ReadyFailed(c) \/ ClientEndSeen(c) \/ ClientEndProven(c) \/ SegmentUnmapped(c) \/ TokenClosed(c)
  \/ ConnectionClosed(c) \/ (cli[c].pc = "over" /\ GoodbyeSaid(c))
KernelStepS(s) ==
  \/ KernelFreesLocks(s) \/ KernelFreesServerByte(s) \/ KernelFreesCopy(s) \/ KernelClosesListener(s) \/ KernelClosesSocket(s)
KernelStepC(c) == KernelFreesToken(c) \/ KernelClosesConnection(c)

Fairness ==
  /\ \A s \in Servers :
       /\ WF_vars(ServerStep(s)) /\ WF_vars(KernelStepS(s))
       /\ WF_vars(ClientHung(s)) /\ WF_vars(HungClientKilled(s)) /\ WF_vars(OrphanKilled(s))
  /\ \A k \in Conns :
       /\ WF_vars(ConnectionAccepted(k)) /\ WF_vars(HandshakeStep(k))
       /\ SF_vars(AdmissionStep(k)) \* the mutex is fair
       /\ WF_vars(WatchStep(k))
  /\ \A c \in Clients :
       /\ WF_vars(ClientStep(c)) /\ WF_vars(KernelStepC(c))
       /\ Returns => WF_vars(Connected(c))
  /\ \A p \in FreezeWho : ThawsFair => WF_vars(Thaw(p))
  /\ WF_vars(Tick)

FairSpec == Spec /\ Fairness

-----------------------------------------------------------------------------
TypeOK ==
  /\ lockPath \in 0..(1 + Deletions)
  /\ \A i \in Ino : byte0[i] \in Servers \union {None}
  /\ tokenPath \in {0} \union Toks /\ kept \subseteq Toks
  /\ \A i \in Toks : token[i] \subseteq Proc \union {Copy, Former} /\ byte1[i] \subseteq Servers \union {Copy}
  /\ \A i \in Ino : record[i].gen \in 0..MaxGen /\ record[i].client \in Clients \union {None}
  /\ path \in Servers \union {None, Stale}
  /\ made \in 0..MaxGen
  /\ \A s \in Servers :
       /\ srv[s].pc \in SrvPc /\ srv[s].ino \in 0..(1 + Deletions) /\ srv[s].mem \in 0..MaxGen
       /\ srv[s].tok \in {0} \union Toks
       /\ srv[s].lis \in {"no", "bound", "listening", "shut"} /\ srv[s].cur \in 0..MaxConn
       /\ srv[s].ready \in BOOLEAN /\ srv[s].hung \in BOOLEAN
       /\ srv[s].cur # 0 => conn[srv[s].cur].s = s
       /\ srv[s].pc = "idle" => srv[s] = SrvInit
  /\ \A c \in Clients :
       /\ cli[c].pc \in CliPc /\ cli[c].k \in 0..MaxConn /\ cli[c].mem \in 0..MaxGen
       /\ cli[c].tok \in {0} \union Toks
       /\ cli[c].k # 0 => conn[cli[c].k].c = c
       /\ cli[c].pc = "idle" => cli[c] = CliInit
  /\ \A k \in Conns :
       /\ conn[k].st \in Stages /\ conn[k].s \in Servers \union {None} /\ conn[k].c \in Clients \union {None}
       /\ conn[k].toS \in {None, "hello", "ready"} /\ conn[k].toC \in {None, "grant", "bare", "refuse"}
       /\ conn[k].st = "free" => conn[k] = ConnInit
       /\ conn[k].tok \in {0} \union Toks /\ conn[k].gone \in {None, "left", "keeps"}
       /\ conn[k].copy => conn[k].s # None
  /\ frozen \subseteq Proc
  /\ bad \subseteq {"L5", "L6", "L7", "L8"}

L1_SingleServer == \A s, t \in Servers : Started(s) /\ Started(t) => s = t
\* The weaker form that is left when P.lock is deleted: one that Listen has returned.
L1_OneServes == \A s, t \in Servers : Serves(s) /\ Serves(t) => s = t
\* Nobody takes a live server's socket away.
L1_Path == \A s \in Servers : Serves(s) => path = s
L2_SingleClient == \A c, d \in Clients : Attached(c) /\ Attached(d) => c = d
L3_BothRestart ==
  \A s \in Servers, c \in Clients : Started(s) /\ Attached(c) =>
    /\ cli[c].mem \in {0, srv[s].mem}
    /\ conn[cli[c].k].mem = srv[s].mem
\* One writer a side and memory, one number a generation, and no older one's words.
L4_NoGhost ==
  /\ \A s, t \in Servers : Started(s) /\ Started(t) /\ s # t => srv[s].mem # srv[t].mem
  /\ \A c, d \in Clients : cli[c].mem # 0 /\ c # d => cli[c].mem # cli[d].mem
  /\ \A m, n \in Gens : m # n /\ mem[m].gen # 0 => <<mem[m].ino, mem[m].gen>> # <<mem[n].ino, mem[n].gen>>
  /\ \A s \in Servers : Started(s) => mem[srv[s].mem].bye \in {0, mem[srv[s].mem].gen}
L5_TrueVerdict == "L5" \notin bad
L6_Told == "L6" \notin bad
L6_Hang ==
  /\ \A s \in Servers : Serves(s) /\ Up(s) /\ ClientOf(s) \in frozen =>
       IF silent[ClientOf(s)] > HangTicks THEN srv[s].hung ELSE TRUE
  /\ \A c \in Clients : Up(c) /\ ServerOf(c) \in frozen =>
       IF silent[ServerOf(c)] > HangTicks THEN cli[c].hung ELSE TRUE
L7_ClientRestart ==
  /\ "L7" \notin bad
  /\ \A c \in Clients, s \in Servers : Attached(c) /\ Serves(s) /\ conn[cli[c].k].s = s =>
       conn[cli[c].k].mem = srv[s].mem
\* When all are gone, nothing is held; and whoever is gone holds nothing.
L8_NoLeak ==
  /\ "L8" \notin bad
  /\ \A s \in Servers : srv[s].pc = "idle" => (\A i \in Ino : byte0[i] # s) /\ ~HoldsTokens(s)
  /\ \A c \in Clients : cli[c].pc = "idle" => \A i \in Toks : c \notin token[i]
  /\ (\A s \in Servers : srv[s].pc = "idle") /\ (\A c \in Clients : cli[c].pc = "idle")
       => \A k \in Conns : conn[k] = ConnInit

\* Close of a server waits for no client but, with a deadline, for the token.
L8_CloseAlone == \A s \in Servers, k \in Conns :
  srv[s].pc = "bye" /\ conn[k].s = s /\ conn[k].st = "watch" => srv[s].cur = k \/ conn[k].c = None
\* The end of a peer is told. One that keeps its token, and locks it again before it
\* was found free, has not ended.
L6_Detect ==
  /\ \A s \in Servers, k \in Conns :
       (Serves(s) /\ srv[s].cur = k /\ conn[k].c = None /\ conn[k].gone # "keeps") ~> (srv[s].cur # k)
  /\ \A c \in Clients :
       (IF cli[c].pc = "attached" THEN Ended(cli[c].k) ELSE cli[c].pc = "endSeen")
         ~> (cli[c].pc \notin {"attached", "endSeen"} \/ c \in frozen)
\* Whoever dials is answered.
L7_Answered == \A c \in Clients : (cli[c].pc = "hello") ~> (cli[c].pc # "hello" \/ c \in frozen)
\* After the last fault the pair works again, and no fault is for ever.
Works == \E s \in Servers, c \in Clients :
  Serves(s) /\ (IF cli[c].pc = "attached" THEN conn[cli[c].k].s = s ELSE FALSE)
L3_Recovers == []<>Works
\* And where the only client may stay frozen: a server runs again.
L3_Starts == []<>(\E s \in Servers : Serves(s))
L8_CloseEnds == \A s \in Servers : (srv[s].pc = "closing") ~> (srv[s].pc \notin Closing)
=============================================================================
