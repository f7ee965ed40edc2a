-------------------------------- MODULE Pair --------------------------------
(***************************************************************************)
(* One direction with its life cycle: processes, locks and sockets act as  *)
(* in Lifecycle, the two ends of the direction as in Ring. What Ring takes *)
(* for granted is done here by the life cycle, and nothing but the life    *)
(* cycle stands in its way: a step that both have is Lifecycle's with      *)
(* Ring's effect and without Ring's guard. That the guard holds is what is *)
(* shown (RefinesRing).                                                    *)
(*                                                                         *)
(*   Ring                        where the code does it                    *)
(*   Killed                      a kill; of who leaves: when its calls are *)
(*                               over (Retired, GoodbyeSaid)               *)
(*   EndProven of the server     ServerEndProven, FormerSettled               *)
(*   EndProven of the client     ClientEndProven                           *)
(*   AccountTaken, Interrupted   under the mutex that ClientRecorded needs *)
(*   SegmentsMapped              GrantSent to a client that attaches       *)
(*   ClearsWait                  before AttachmentStored                   *)
(*   NewGeneration               GenerationRecorded                        *)
(*                                                                         *)
(* A client counts from its AttachmentStored on: before, it has used       *)
(* nothing, and its end is not told. But the server may die between the    *)
(* grant and that store, and Ring has no client that comes to a dead       *)
(* server. So it is guessed at the grant whether the client will get that  *)
(* far (comes); if so it is there for the ring from then on. A wrong guess *)
(* goes nowhere, the right one is always among the two.                    *)
(*                                                                         *)
(* The seat of a fresh generation is that of a client that does nothing    *)
(* yet: the first one takes it as it is. If nobody has, the next Listen    *)
(* finds it empty (TokenLocked).                                           *)
(*                                                                         *)
(* Nobody freezes or times out, and no call is cancelled: both modules     *)
(* have that alone. The steps of the ring alone appear in groups.          *)
(*                                                                         *)
(* The mutants of the coupling, and what each leaves out:                  *)
(*   RetiresLate      Close waits for the calls that are under way         *)
(*   GrantsUnsettled  admission waits for the mutex of the settlement      *)
(*   AccountAtEOF     the account is taken when the end is proven          *)
(* and of Lifecycle AdmitBeforeSettle, GrantOnEOF, ListenSkipsToken and    *)
(* UnmapLast, which RetiresLate needs to show: as long as the calls are    *)
(* over first, nobody writes after the goodbye.                            *)
(***************************************************************************)
EXTENDS RingRefines

CONSTANTS Servers, Clients, MaxConn, KillsS, KillsC, ClosesS, ClosesC, Expels, Mut

VARIABLES
  left, lockPath, byte0, tokenPath, token, byte1, kept, record, path, memory, made, srv, cli, conn, stopped, silent, bad,
  comes      \* the client that was granted last will store its attachment

L == INSTANCE Lifecycle WITH
  mem <- memory, frozen <- stopped,
  Freezes <- 0, FreezeWho <- {}, HangTicks <- 1, Timeouts <- 0, Deletions <- 0, TokenDeletions <- 0, Copies <- 0, Formers <- 0,
  Wait <- FALSE,
  KillOrphan <- FALSE, KillOnClose <- FALSE, KillHung <- FALSE, ThawsFair <- FALSE, Returns <- FALSE, Off <- {}

world == <<left, lockPath, byte0, tokenPath, token, byte1, kept, record, path, memory, made, srv, cli, conn, stopped, silent, bad>>
pairVars == <<vars, world, comes>>

Still == UNCHANGED <<vars, comes>>
Outside == UNCHANGED <<world, comes>>

\* A process dies, leaves or stalls often enough; the life cycle bounds it.
PairKills == [r \in Role |-> 5]
PairNone == [r \in Role |-> 0]

PairInit == Init /\ L!Init /\ comes = FALSE

----------------------------------------------------------------------------
(***************************************************************************)
(* Who has which end of the ring. Its memory is that of the last           *)
(* generation.                                                             *)
(***************************************************************************)

Holds(s) == made > 0 /\ srv[s].mem = made
First == memory[made].cin = 0
\* The attachment over connection k is the one that the memory names.
Counts(k) == IF k = 0 THEN FALSE ELSE memory[made].cin = conn[k].num
Sits(c) == IF cli[c].mem # 0 THEN cli[c].mem = made /\ Counts(cli[c].k) ELSE FALSE
Granted(c) == IF cli[c].pc \in {"hello", "granted", "mapped"} THEN conn[cli[c].k].num # 0 ELSE FALSE

\* Its user's calls run. A Close first waits for those that are under way.
Late == Out("RetiresLate")
ServerRuns(s) == Holds(s) /\ srv[s].pc \in {"serving", "closing"} \union (IF Late THEN L!Closing ELSE {})
ClientRuns(c) ==
  Sits(c) /\ cli[c].pc \in {"attached", "endSeen", "over"} \union (IF Late THEN {"bye", "tokenClosed"} ELSE {})
Runs(r) == IF r = Server THEN \E s \in Servers : ServerRuns(s) ELSE \E c \in Clients : ClientRuns(c)

----------------------------------------------------------------------------
(***************************************************************************)
(* Steps of the ring alone.                                                *)
(***************************************************************************)

Sends == Runs("P") /\ Produces /\ Outside
Receives == Runs("C") /\ Consumes /\ Outside
GivesBack == Runs(RoleOf("R")) /\ Releases /\ Outside
Tells(r) == (AccountTaken(r) \/ Interrupted(r) \/ InterruptNotified(r)) /\ Outside

WaitCleared(c) == cli[c].pc = "mapped" /\ comes /\ (DataWaitCleared \/ SpaceWaitCleared) /\ Outside

\* Close of the server has waited for its calls.
Retired(s) == Holds(s) /\ srv[s].pc = "closing" /\ ~Late /\ Killed(Server) /\ Outside

----------------------------------------------------------------------------
(***************************************************************************)
(* What the life cycle does to the ring.                                   *)
(***************************************************************************)

Ends(r, yes) == IF yes /\ up[r] THEN Killed(r) ELSE UNCHANGED vars

Proves(r, yes) ==
  IF yes
    THEN /\ watch' = [watch EXCEPT ![r] = "proven"]
         /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, stale, canc, life, ghosts, cancels>>
    ELSE UNCHANGED vars

\* SegmentsMapped of Ring, whatever the predecessor does.
TakesSeat ==
  /\ up' = [up EXCEPT ![Client] = TRUE]
  /\ pc' = [t \in Thread |-> IF t = Client THEN "mapped" ELSE IF RoleOf(t) = Client THEN "idle" ELSE pc[t]]
  /\ watch' = [watch EXCEPT ![Client] = "watching", ![Server] = IF @ = "gone" THEN "watching" ELSE @]
  /\ cursor' = [cursor EXCEPT ![Client] =
       CASE Out("StartAtDelivered") -> mem["deliveredPos"]
         [] Out("StartAtRead") -> mem["readPos"]
         [] OTHER -> mem[PosOf(Client)]]
  /\ held' = IF Client = "C" THEN 0 ELSE held
  /\ acct' = IF Client = "C" THEN <<>> ELSE acct
  /\ mark' = IF Client = "C" /\ ~Out("MarkLost") THEN mem["deliveredPos"] ELSE mark
  /\ UNCHANGED <<slot, shared, seen, stop, cancel, ends, stale, canc, frozen, kills, freezes, gen, log, handed,
                 fin, cancels>>

\* NewGeneration of Ring, whoever is left of the former.
FreshMemory ==
  /\ gen' = gen + 1
  /\ mem' = IF Out("MemoryKept") THEN mem ELSE [w \in Word |-> 0]
  /\ slot' = IF Out("MemoryKept") THEN slot ELSE [i \in 0..Cap - 1 |-> <<0, 0>>]
  /\ up' = [r \in Role |-> TRUE]
  /\ pc' = [t \in Thread |-> "idle"]
  /\ watch' = [r \in Role |-> "watching"]
  /\ cursor' = [r \in Role |-> mem'[PosOf(r)]]
  /\ log' = <<>> /\ handed' = 0 /\ fin' = <<>> /\ acct' = <<>>
  /\ UNCHANGED <<buf, seen, stop, held, mark, cancel, ends, stale, canc, frozen, kills, freezes, cancels>>

Same == comes' = comes

TokenLocked(s) ==
  /\ L!TokenLocked(s)
  /\ Ends(Client, IF made = 0 THEN FALSE ELSE First)
  /\ Same

GenerationRecorded(s) ==
  /\ L!GenerationRecorded(s)
  /\ IF made = 0 THEN UNCHANGED vars ELSE FreshMemory
  /\ Same

KillServer(s) == L!KillServer(s) /\ Ends(Server, Holds(s)) /\ Same

\* No store of this server comes behind its goodbye.
PathUnlinked(s) == L!PathUnlinked(s) /\ (~up[Server] \/ Late) /\ Still

ServerSegmentUnmapped(s) == L!ServerSegmentUnmapped(s) /\ Ends(Server, Holds(s)) /\ Same

\* The former client's account and end, under one mutex, first (C3).
Settling == watch[Server] \in {"proven", "taken", "raised"}
ClientRecorded(k) == L!ClientRecorded(k) /\ (~Settling \/ Out("GrantsUnsettled")) /\ Still

GrantSent(k) ==
  /\ L!GrantSent(k)
  /\ \E b \in (IF cli[conn[k].c].pc = "dying" THEN {FALSE} ELSE BOOLEAN) :
       /\ comes' = b
       /\ IF b /\ ~First THEN TakesSeat ELSE UNCHANGED vars

AtEOF == Out("AccountAtEOF")
EndSeen(k) == L!EndSeen(k) /\ Proves(Server, AtEOF /\ srv[conn[k].s].cur = k /\ Counts(k)) /\ Same
Expelled(k) == L!Expelled(k) /\ Proves(Server, AtEOF /\ Counts(k)) /\ Same
ServerEndProven(k) == L!EndProven(k) /\ Proves(Server, ~AtEOF /\ srv[conn[k].s].cur = k /\ Counts(k)) /\ Same
FormerSettled(k) == L!FormerSettled(k) /\ Proves(Server, ~AtEOF /\ Counts(srv[conn[k].s].cur)) /\ Same

AttachmentStored(c) ==
  /\ comes /\ pc[Client] # "mapped"
  /\ L!AttachmentStored(c)
  /\ comes' = FALSE
  /\ UNCHANGED vars

ReadyFailed(c) == L!ReadyFailed(c) /\ Ends(Client, Sits(c)) /\ Same

KillClient(c) == ~(Granted(c) /\ comes) /\ L!KillClient(c) /\ Ends(Client, Sits(c)) /\ Same

\* To a client that was dropped this is the end of its server, and to the ring it is nothing.
ClientEndProven(c) == L!ClientEndProven(c) /\ Proves(Client, Sits(c) /\ conn[cli[c].k].toC # "refuse") /\ Same

\* No store of this client comes behind its goodbye.
GoodbyeSaid(c) == L!GoodbyeSaid(c) /\ Ends(Client, Sits(c) /\ ~Late) /\ Same

SegmentUnmapped(c) == L!SegmentUnmapped(c) /\ Ends(Client, Sits(c)) /\ Same

----------------------------------------------------------------------------
(***************************************************************************)
(* Steps of the life cycle alone.                                          *)
(***************************************************************************)

LockFileOpened(s) == L!LockFileOpened(s) /\ Still
ServerLocked(s) == L!ServerLocked(s) /\ Still
ServerRunning(s) == L!ServerRunning(s) /\ Still
ClientRunning(s) == L!ClientRunning(s) /\ Still
StaleProbed(s) == L!StaleProbed(s) /\ Still
ServerSegmentMade(s) == L!ServerSegmentMade(s) /\ Still
ClientSegmentMade(s) == L!ClientSegmentMade(s) /\ Still
StaleUnlinked(s) == L!StaleUnlinked(s) /\ Still
SocketBound(s) == L!SocketBound(s) /\ Still
SocketListening(s) == L!SocketListening(s) /\ Still
LockFileRechecked(s) == L!LockFileRechecked(s) /\ Still
TokenReturned(s) == L!TokenReturned(s) /\ Still
Abandoned(s) == L!Abandoned(s) /\ Still
CloseBegun(s) == L!CloseBegun(s) /\ Still
ListenerClosed(s) == L!ListenerClosed(s) /\ Still
ServerGoodbyeSaid(s) == L!ServerGoodbyeSaid(s) /\ Still
ServerConnectionClosed(s) == L!ServerConnectionClosed(s) /\ Still
TokenAwaited(s) == L!TokenAwaited(s) /\ Still
ServerUnlocked(s) == L!ServerUnlocked(s) /\ Still
KernelFreesLocks(s) == L!KernelFreesLocks(s) /\ Still
KernelFreesServerByte(s) == L!KernelFreesServerByte(s) /\ Still
KernelFreesCopy(s) == L!KernelFreesCopy(s) /\ Still
KernelClosesListener(s) == L!KernelClosesListener(s) /\ Still
KernelClosesSocket(s) == L!KernelClosesSocket(s) /\ Still

ConnectionAccepted(k) == L!ConnectionAccepted(k) /\ Still
HelloReceived(k) == L!HelloReceived(k) /\ Still
HandshakeEnded(k) == L!HandshakeEnded(k) /\ Still
AdmissionBegun(k) == L!AdmissionBegun(k) /\ Still
TokenTaken(k) == L!TokenTaken(k) /\ Still
AdmissionRefused(k) == L!AdmissionRefused(k) /\ Still
AdmissionGivenUp(k) == L!AdmissionGivenUp(k) /\ Still
TokenHandedOver(k) == L!TokenHandedOver(k) /\ Still
ReadyReceived(k) == L!ReadyReceived(k) /\ Still

Connected(c) == L!Connected(c) /\ Still
HelloSent(c) == L!HelloSent(c) /\ Still
DialFailed(c) == L!DialFailed(c) /\ Still
GrantReceived(c) == L!GrantReceived(c) /\ Still
ClientSegmentsMapped(c) == L!SegmentsMapped(c) /\ Still
ReadySent(c) == L!ReadySent(c) /\ Still
ClientEndSeen(c) == L!ClientEndSeen(c) /\ Still
TokenClosed(c) == L!TokenClosed(c) /\ Still
ConnectionClosed(c) == L!ConnectionClosed(c) /\ Still
KernelFreesToken(c) == L!KernelFreesToken(c) /\ Still
KernelClosesConnection(c) == L!KernelClosesConnection(c) /\ Still

PairNext ==
  \/ Sends \/ Receives \/ GivesBack
  \/ \E r \in Role : Tells(r)
  \/ \E s \in Servers :
       \/ LockFileOpened(s) \/ ServerLocked(s) \/ ServerRunning(s) \/ TokenLocked(s) \/ ClientRunning(s)
       \/ StaleProbed(s) \/ GenerationRecorded(s)
       \/ ServerSegmentMade(s) \/ ClientSegmentMade(s) \/ StaleUnlinked(s) \/ SocketBound(s) \/ SocketListening(s)
       \/ LockFileRechecked(s) \/ TokenReturned(s) \/ Abandoned(s)
       \/ CloseBegun(s) \/ Retired(s) \/ PathUnlinked(s) \/ ListenerClosed(s) \/ ServerGoodbyeSaid(s)
       \/ ServerConnectionClosed(s) \/ TokenAwaited(s) \/ ServerSegmentUnmapped(s) \/ ServerUnlocked(s)
       \/ KillServer(s) \/ KernelFreesLocks(s) \/ KernelFreesServerByte(s) \/ KernelFreesCopy(s)
       \/ KernelClosesListener(s) \/ KernelClosesSocket(s)
  \/ \E k \in L!Conns :
       \/ ConnectionAccepted(k) \/ HelloReceived(k) \/ HandshakeEnded(k) \/ AdmissionBegun(k) \/ TokenTaken(k)
       \/ AdmissionRefused(k) \/ FormerSettled(k) \/ ClientRecorded(k) \/ GrantSent(k) \/ AdmissionGivenUp(k)
       \/ TokenHandedOver(k) \/ ReadyReceived(k) \/ EndSeen(k) \/ Expelled(k) \/ ServerEndProven(k)
  \/ \E c \in Clients :
       \/ Connected(c) \/ HelloSent(c) \/ DialFailed(c) \/ GrantReceived(c) \/ ClientSegmentsMapped(c)
       \/ WaitCleared(c) \/ AttachmentStored(c) \/ ReadySent(c) \/ ReadyFailed(c) \/ ClientEndSeen(c)
       \/ ClientEndProven(c) \/ GoodbyeSaid(c) \/ SegmentUnmapped(c) \/ TokenClosed(c) \/ ConnectionClosed(c)
       \/ KillClient(c) \/ KernelFreesToken(c) \/ KernelClosesConnection(c)

PairSpec == PairInit /\ [][PairNext]_pairVars

----------------------------------------------------------------------------
\* What the ring does here Ring allows: each of its guards holds.
RefinesRing == Spec

\* A client that was let in finds its server dead.
Reach_AttachesToTheDead == ~\E c \in Clients : cli[c].pc = "attached" /\ ~up[Server] /\ ~L!Ended(cli[c].k)
\* A message comes again to a client that another process was before.
Reach_ComesAgain == ~(\E c \in Clients : ClientRuns(c) /\ held > 0 /\ cursor["C"] - held + 1 <= mark)
\* A newcomer has the token, and the former client's account is not taken yet.
Reach_NewcomerWaits == ~(Settling /\ \E k \in L!Conns : conn[k].st = "taken")
\* The connection is at its end, and the client still stores.
Reach_StoresBehindTheEnd ==
  ~(pc[Client] \in {"published", "delivered"} /\ \E k \in L!Conns : conn[k].st = "expelled" /\ conn[k].c # "none")
=============================================================================
