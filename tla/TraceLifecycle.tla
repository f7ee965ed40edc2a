--------------------------- MODULE TraceLifecycle ---------------------------
(***************************************************************************)
(* Is a recorded trace of a path one of Lifecycle's? Each action that has  *)
(* a step takes its thread's next event; the others are hidden. The names  *)
(* and threads are those of LifecycleRuns in model/lifecycle_record.go.    *)
(***************************************************************************)
EXTENDS Lifecycle, TraceSteps

VARIABLES
  lives,  \* [Proc -> how often it was killed]
  failed  \* clients that found their server gone before they could say ready

Of(p, lane) == <<p \o lane, lives[p]>>
Alike == UNCHANGED <<lives, failed>>
Hidden == Unrecorded /\ Alike
Does(p, name, place) == Recorded(Of(p, ""), name, place) /\ Alike
DoesIn(p, lane, name, place) == Recorded(Of(p, lane), name, place) /\ Alike

\* What learns of the end of one attachment of one generation.
About(lane, k) == lane \o " " \o ToString(mem[srv[conn[k].s].mem].gen) \o "." \o ToString(conn[k].num)

TraceInit == Init /\ lives = [p \in Proc |-> 0] /\ failed = {} /\ \E t \in DOMAIN Traces : Begins(t)

Serving(s) ==
  \/ LockFileOpened(s) /\ Does(s, "LockFileOpened", 0)
  \/ ServerLocked(s) /\ Does(s, "ServerLocked", 0)
  \/ ServerRunning(s) /\ Hidden
  \/ TokenLocked(s) /\ Does(s, "TokenLocked", 0)
  \/ ClientRunning(s) /\ Hidden
  \/ StaleProbed(s) /\ Does(s, "StaleProbed", 0)
  \/ GenerationRecorded(s) /\ Does(s, "GenerationRecorded", mem'[srv'[s].mem].gen)
  \/ ServerSegmentMade(s) /\ Does(s, "ServerSegmentMade", 0)
  \/ ClientSegmentMade(s) /\ Does(s, "ClientSegmentMade", 0)
  \/ StaleUnlinked(s) /\ Hidden
  \/ SocketBound(s) /\ Does(s, "SocketBound", 0)
  \/ SocketListening(s) /\ Does(s, "SocketListening", 0)
  \/ LockFileRechecked(s) /\ Does(s, "LockFileRechecked", 0)
  \/ TokenReturned(s) /\ Does(s, "TokenReturned", 0)
  \/ Abandoned(s) /\ Hidden

Closes(s) ==
  \/ CloseBegun(s) /\ Hidden /\ ClosesS - left.closeS < T.closes /\ NextIs(Of(s, ""), "PathUnlinked")
  \/ PathUnlinked(s) /\ Does(s, "PathUnlinked", 0)
  \/ ListenerClosed(s) /\ Does(s, "ListenerClosed", 0)
  \/ ServerGoodbyeSaid(s) /\ Does(s, "GoodbyeSaid", mem[srv[s].mem].gen)
  \/ ServerConnectionClosed(s) /\ Does(s, "ConnectionClosed", 0)
  \/ TokenAwaited(s) /\ Does(s, "TokenAwaited", 0)
  \/ ServerSegmentUnmapped(s) /\ Does(s, "SegmentUnmapped", 0)
  \/ ServerUnlocked(s) /\ Does(s, "ServerUnlocked", 0)

Admits(k) ==
  LET s == conn[k].s IN
  \/ ConnectionAccepted(k) /\ DoesIn(s, ".accept", "ConnectionAccepted", 0)
  \/ HelloReceived(k) /\ DoesIn(s, ".hello", "HelloReceived", 0)
  \/ HandshakeEnded(k) /\ Hidden
  \/ AdmissionBegun(k) /\ Hidden
  \/ TokenTaken(k) /\ DoesIn(s, ".admit", "TokenTaken", 0)
  \/ AdmissionRefused(k) /\ Hidden
  \/ FormerSettled(k) /\ IF srv[s].cur = 0 THEN Hidden ELSE DoesIn(s, About(".end", srv[s].cur), "EndProven", 0)
  \/ ClientRecorded(k) /\ DoesIn(s, ".admit", "ClientRecorded", 0)
  \/ GrantSent(k) /\ DoesIn(s, ".admit", "GrantSent", conn'[k].num)
  \/ AdmissionGivenUp(k) /\ Hidden
  \/ TokenHandedOver(k) /\ DoesIn(s, ".admit", "TokenHandedOver", 0)
  \/ ReadyReceived(k) /\ DoesIn(s, About(".watch", k), "ReadyReceived", 0)
  \/ EndSeen(k) /\ DoesIn(s, About(".watch", k), "EndSeen", 0)
  \/ EndProven(k) /\ IF srv[s].cur = k THEN DoesIn(s, About(".end", k), "EndProven", 0) ELSE Hidden

Dials(c) ==
  \/ /\ Connected(c) /\ Recorded(Of(c, ""), "Connected", 0)
     /\ failed' = failed \ {c} /\ UNCHANGED lives
  \/ HelloSent(c) /\ Does(c, "HelloSent", 0)
  \/ DialFailed(c) /\ Hidden /\ NextIs(Of(c, ""), "Connected")
  \/ GrantReceived(c) /\ Does(c, "GrantReceived", conn[cli[c].k].num)
  \/ SegmentsMapped(c) /\ Does(c, "SegmentsMapped", 0)
  \/ AttachmentStored(c) /\ Does(c, "AttachmentStored", conn[cli[c].k].num)
  \/ ReadySent(c) /\ Does(c, "ReadySent", 0)
  \/ ReadyFailed(c) /\ Unrecorded /\ failed' = failed \union {c} /\ UNCHANGED lives
  \/ ClientEndSeen(c) /\ DoesIn(c, ".watch", "EndSeen", 0)
  \/ ClientEndProven(c) /\ DoesIn(c, ".watch", "EndProven", 0)
  \/ GoodbyeSaid(c) /\ Does(c, "GoodbyeSaid", conn[cli[c].k].num)
  \/ SegmentUnmapped(c) /\ Does(c, "SegmentUnmapped", 0)
  \/ TokenClosed(c) /\ IF c \in failed THEN Hidden ELSE Does(c, "TokenClosed", 0)
  \/ ConnectionClosed(c) /\ IF c \in failed THEN Hidden ELSE Does(c, "ConnectionClosed", 0)

Dies(p) == /\ AlwaysRecorded(<<"Killed " \o p, 0>>, "Killed " \o p)
           /\ lives' = [lives EXCEPT ![p] = @ + 1] /\ UNCHANGED failed

\* A process that holds nothing dies as one that never was.
KillIdle(p) ==
  /\ IF p \in Servers THEN srv[p].pc = "idle" ELSE cli[p].pc = "idle"
  /\ Dies(p) /\ UNCHANGED vars

Deaths ==
  \/ \E s \in Servers : KillServer(s) /\ Dies(s)
  \/ \E c \in Clients : KillClient(c) /\ Dies(c)
  \/ \E p \in Proc : KillIdle(p)
  \/ \E s \in Servers : (KernelFreesLocks(s) \/ KernelFreesServerByte(s) \/ KernelFreesCopy(s)
                          \/ KernelClosesListener(s) \/ KernelClosesSocket(s)) /\ Hidden
  \/ \E c \in Clients : (KernelFreesToken(c) \/ KernelClosesConnection(c)) /\ Hidden

TraceNext ==
  /\ ~Whole
  /\ \/ \E s \in Servers : Serving(s) \/ Closes(s)
     \/ \E k \in Conns : Admits(k)
     \/ \E c \in Clients : Dials(c)
     \/ Deaths
=============================================================================
