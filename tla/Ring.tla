-------------------------------- MODULE Ring --------------------------------
(***************************************************************************)
(* One direction at the code's own grain: a ring in shared memory, its     *)
(* doorbell, and what each side knows of the other's end. One action is    *)
(* one load or store of a word that somebody else can see, or one system   *)
(* call; where the code has a named step (package ipc/step), the action    *)
(* has its name. README.md maps actions to functions, variables to words.  *)
(*                                                                         *)
(* The producer "P" owns writePos and spaceWaitFor, the consumer "C" owns  *)
(* readPos, deliveredPos and dataWaitFor. Positions count messages here;   *)
(* a slot holds one, in two halves that are stored apart.                  *)
(*                                                                         *)
(* Memory is x86's: with Tso, each store of a word enters the owner's      *)
(* buffer and leaves it some time later, in order (Drained). A fence is a  *)
(* guard: the load behind it waits until the buffer is empty. The code's   *)
(* XCHG, store and fence in one, is a special case of that.                *)
(*                                                                         *)
(* Either side may be killed between any two actions. Its retired stores   *)
(* reach memory, its locals are lost, the kernel drops it from the futex   *)
(* queues. Its peer sees the end when the kernel says so, some time later. *)
(* A client is followed by the next one; when both are gone the next       *)
(* generation starts in fresh memory.                                      *)
(*                                                                         *)
(* A side that is frozen takes no step. For safety that is nothing new (no *)
(* action must ever happen), so only liveness has a variable for it.       *)
(*                                                                         *)
(* Locals that are never read again are set to zero, as is everything of a *)
(* process that is dead: equal states look equal.                          *)
(***************************************************************************)
EXTENDS Naturals, Sequences

CONSTANTS
  Cap,      \* slots of the ring
  MaxMsg,   \* messages per generation
  MaxGen,   \* generations
  Client,   \* which role the client has: "P" or "C"
  Kills,    \* [Role -> how often it may be killed]
  Cancels,  \* [Role -> how often its calls may be cancelled]
  Freezes,  \* [Role -> how often it may freeze, for ever]
  Batch,    \* records behind one store of writePos
  Hold,     \* messages that the consumer may hold at once
  Aborts,   \* reservations may be given back
  Tso,      \* stores pass through a buffer
  Idle,     \* sleeps end for no reason (signals, time-outs of the heartbeat)
  Left      \* the rules that are left out, by the name of the fault; {} for none

VARIABLES
  \* shared memory and what is on its way to it
  mem,      \* [Word -> Nat]
  slot,     \* [0..Cap-1 -> <<first half, second half>>]
  buf,      \* [Role -> Seq(<<word, value>>)]
  \* private to each side
  up,       \* [Role -> BOOLEAN]: a process lives
  frozen,   \* [Role -> BOOLEAN]
  pc,       \* [Role -> where its goroutine stands]
  cursor,   \* P: records filled up to here; C: messages handed out up to here
  seen,     \* the peer's position that was decided on; later the own one before it moved
  held,     \* messages in the consumer's hands
  mark,     \* the consumer marks messages up to here Redelivered
  cancel,   \* [Role -> BOOLEAN]: the flag that a cancelled call sets
  ends,     \* [Role -> Seq(final position)]: recorded ends of the peer, not yet reported
  stale,    \* [Role -> BOOLEAN]: the interrupt counter has moved since it was loaded
  watch,    \* [Role -> where its EOF watcher stands]
  canc,     \* [Role -> where its canceller stands]
  \* what no process knows
  gen, log, handed, fin, acct,
  kills, cancels, freezes

shared == <<mem, buf>>
locals == <<cursor, seen, held, mark>>
irq    == <<cancel, ends, stale, watch, canc>>
life   == <<up, frozen, kills, freezes, gen>>
ghosts == <<log, handed, fin, acct>>

vars == <<mem, slot, buf, up, frozen, pc, cursor, seen, held, mark, cancel, ends, stale, watch, canc,
          gen, log, handed, fin, acct, kills, cancels, freezes>>

Role == {"P", "C"}
Peer(r) == IF r = "P" THEN "C" ELSE "P"
Server == Peer(Client)

Word == {"writePos", "readPos", "deliveredPos", "dataWaitFor", "spaceWaitFor"}
PosOf(r) == IF r = "P" THEN "writePos" ELSE "readPos"
WaitOf(r) == IF r = "P" THEN "spaceWaitFor" ELSE "dataWaitFor"

Out(fault) == fault \in Left

Larger(a, b) == IF a > b THEN a ELSE b
Smaller(a, b) == IF a < b THEN a ELSE b

----------------------------------------------------------------------------
(***************************************************************************)
(* Memory                                                                  *)
(***************************************************************************)

Store(r, w, v) ==
  IF Tso
    THEN buf' = [buf EXCEPT ![r] = Append(@, <<w, v>>)] /\ mem' = mem
    ELSE mem' = [mem EXCEPT ![w] = v] /\ buf' = buf

RECURSIVE Apply(_, _)
Apply(m, b) == IF b = <<>> THEN m ELSE Apply([m EXCEPT ![b[1][1]] = b[1][2]], Tail(b))

\* What the owner of a word reads there: its own last store.
Own(r, w) == IF buf[r] = <<>> THEN mem[w] ELSE Apply(mem, buf[r])[w]

Fenced(r) == buf[r] = <<>>

Alive(r) == up[r] /\ ~frozen[r]

Index(i) == (i - 1) % Cap

\* Who committed it where: no two messages are equal.
Message(i) == 100 * gen + (IF Client = "P" THEN 10 * (Kills["P"] - kills["P"]) ELSE 0) + i

Init ==
  /\ mem = [w \in Word |-> 0]
  /\ slot = [i \in 0..Cap - 1 |-> <<0, 0>>]
  /\ buf = [r \in Role |-> <<>>]
  /\ up = [r \in Role |-> TRUE]
  /\ frozen = [r \in Role |-> FALSE]
  /\ pc = [r \in Role |-> "idle"]
  /\ cursor = [r \in Role |-> 0]
  /\ seen = [r \in Role |-> 0]
  /\ held = 0
  /\ mark = 0
  /\ cancel = [r \in Role |-> FALSE]
  /\ ends = [r \in Role |-> <<>>]
  /\ stale = [r \in Role |-> FALSE]
  /\ watch = [r \in Role |-> "watching"]
  /\ canc = [r \in Role |-> "none"]
  /\ gen = 1
  /\ log = <<>>
  /\ handed = 0
  /\ fin = <<>>
  /\ acct = <<>>
  /\ kills = Kills
  /\ cancels = Cancels
  /\ freezes = Freezes

Drained(r) ==
  /\ buf[r] # <<>>
  /\ mem' = [mem EXCEPT ![buf[r][1][1]] = buf[r][1][2]]
  /\ buf' = [buf EXCEPT ![r] = Tail(@)]
  /\ UNCHANGED <<slot, pc, locals, irq, life, ghosts, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The wait loop (W2), the same for both sides: the producer waits for     *)
(* readPos, the consumer for writePos.                                     *)
(*                                                                         *)
(* The interrupt counter appears as stale: set by whoever raises it,       *)
(* cleared by loading it. That is exact as long as the counter does not    *)
(* wrap round between a load and the compare.                              *)
(***************************************************************************)

\* Where a loaded counter is still to be compared.
Loaded(r) == pc[r] \in {"flags", "position", "end", "arm", "sleep", "sleep2"}

Goto(r, l) == pc' = [pc EXCEPT ![r] = l]

Wanted(r) == IF r = "P" THEN cursor["P"] < MaxMsg ELSE held < Hold

\* The counter is loaded first.
CountLoaded(r) ==
  /\ Alive(r)
  /\ pc[r] = "idle" /\ Wanted(r)
  /\ Goto(r, "flags")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

\* Back from the sleep, round again, the counter first.
Woken(r) ==
  /\ Alive(r)
  /\ pc[r] = "woken"
  /\ Goto(r, "flags")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

FlagsLoaded(r) ==
  /\ Alive(r)
  /\ pc[r] = "flags"
  /\ IF cancel[r]
       THEN Goto(r, "disarm") /\ stale' = [stale EXCEPT ![r] = FALSE]
       ELSE Goto(r, "position") /\ stale' = stale
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

PositionLoaded(r) ==
  /\ Alive(r)
  /\ pc[r] = "position"
  /\ Goto(r, "end")
  /\ seen' = [seen EXCEPT ![r] = mem[PosOf(Peer(r))]]
  /\ stale' = IF Out("CounterAfterFlags") THEN [stale EXCEPT ![r] = FALSE] ELSE stale
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* Then the recorded end, whose final position was sampled behind the EOF; and
\* the decision, which is one of the next eight actions.
Decides(r, l, s) ==
  /\ Alive(r)
  /\ pc[r] = "end"
  /\ Goto(r, l)
  /\ seen' = [seen EXCEPT ![r] = s]
  /\ stale' = IF l = "arm" THEN stale ELSE [stale EXCEPT ![r] = FALSE]

HeldBack == cursor["P"] > Own("P", "writePos")
Space == IF Out("SpaceOffByOne") THEN cursor["P"] - seen["P"] <= Cap ELSE cursor["P"] - seen["P"] < Cap

Claimed ==
  /\ ends["P"] = <<>> /\ Space
  /\ Decides("P", IF Out("PublishBeforeFill") THEN "filled" ELSE "claimed", 0)
  /\ cursor' = IF Out("PublishBeforeFill") THEN [cursor EXCEPT !["P"] = @ + 1] ELSE cursor
  /\ UNCHANGED <<slot, shared, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* W8: nothing is held back over a wait.
FlushNeeded ==
  /\ ends["P"] = <<>> /\ ~Space /\ HeldBack /\ ~Out("BatchHeldBack")
  /\ Decides("P", "filled", 0)
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

SpaceNeeded ==
  /\ ends["P"] = <<>> /\ ~Space /\ (HeldBack => Out("BatchHeldBack"))
  /\ Decides("P", "arm", seen["P"])
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* The server is gone: a client's Send fails, now and for ever.
SendFailed ==
  /\ ends["P"] # <<>>
  /\ Decides("P", "ended", 0)
  /\ cursor' = [cursor EXCEPT !["P"] = 0]
  /\ UNCHANGED <<slot, shared, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* Up to where the consumer may read: an end holds back what its successor wrote.
Limit ==
  CASE ends["C"] = <<>> -> seen["C"]
    [] Out("PositionBeforeEnd") -> Smaller(seen["C"], Head(ends["C"]))
    [] Out("DrainSkipped") -> cursor["C"]
    [] Out("EndNoLimit") -> Larger(seen["C"], Head(ends["C"]))
    [] OTHER -> Head(ends["C"])

DataFound ==
  /\ Limit > cursor["C"]
  /\ Decides("C", "found", Limit)
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

EndReported ==
  /\ Limit <= cursor["C"] /\ ends["C"] # <<>>
  /\ Decides("C", "told", 0)
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* W8: nothing will come while the consumer itself holds all the space.
ViewsHeld ==
  /\ Limit <= cursor["C"] /\ ends["C"] = <<>>
  /\ held >= Cap /\ ~Out("ViewsHeldIgnored")
  /\ Decides("C", "idle", 0)
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

DataNeeded ==
  /\ Limit <= cursor["C"] /\ ends["C"] = <<>>
  /\ held < Cap \/ Out("ViewsHeldIgnored")
  /\ Decides("C", "arm", seen["C"])
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* W1: the waiting word holds the position that would do.
ArmedAt(r, v) ==
  /\ Alive(r)
  /\ pc[r] = "arm"
  /\ Store(r, WaitOf(r), v)
  /\ Goto(r, "sleep")
  /\ seen' = IF Out("StaleCompare") THEN [seen EXCEPT ![r] = mem[PosOf(Peer(r))]] ELSE seen
  /\ UNCHANGED <<slot, cursor, held, mark, irq, life, ghosts, cancels>>

SpaceArmed == ArmedAt("P", cursor["P"] + 1 - Cap)
DataArmed == ArmedAt("C", cursor["C"] + (IF Out("ArmBeyond") THEN 2 ELSE 1))

\* futex_waitv queues on the first word and compares it: the peer's position ...
Sleeping(r) ==
  /\ Alive(r)
  /\ pc[r] = "sleep"
  /\ Fenced(r) \/ Out("NoWaiterFence")
  /\ LET same == mem[PosOf(Peer(r))] = seen[r] \/ Out("NoPositionCompare")
     IN /\ Goto(r, IF same THEN "sleep2" ELSE "woken")
        /\ stale' = IF same THEN stale ELSE [stale EXCEPT ![r] = FALSE]
  /\ seen' = [seen EXCEPT ![r] = 0]
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* ... and then on the second: one's own interrupt counter.
Slept(r) ==
  /\ Alive(r)
  /\ pc[r] = "sleep2"
  /\ Goto(r, IF stale[r] /\ ~Out("NoCounterCompare") THEN "woken" ELSE "asleep")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

\* A signal, or a wake meant for somebody who waited here before.
WokenForNothing(r) ==
  /\ Alive(r) /\ Idle
  /\ pc[r] = "asleep"
  /\ Goto(r, "woken")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* W5: a sleep is bounded by the heartbeat.
TimedOut(r) ==
  /\ Alive(r) /\ Idle /\ ~Out("SleepUnbounded")
  /\ pc[r] = "asleep"
  /\ Goto(r, "woken")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* A waiter that gives up leaves no waiting word behind. What it held back of a
\* batch was never committed.
Disarmed(r) ==
  /\ Alive(r)
  /\ pc[r] = "disarm"
  /\ IF Out("WaitsKept") THEN UNCHANGED shared ELSE Store(r, WaitOf(r), 0)
  /\ Goto(r, "idle")
  /\ cancel' = [cancel EXCEPT ![r] = FALSE]
  /\ cursor' = IF r = "P" THEN [cursor EXCEPT !["P"] = Own("P", "writePos")] ELSE cursor
  /\ UNCHANGED <<slot, seen, held, mark, ends, stale, watch, canc, life, ghosts, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The producer: claim, fill in two stores, publish, notify.               *)
(***************************************************************************)

HeaderStored ==
  /\ Alive("P")
  /\ pc["P"] = "claimed"
  /\ slot' = [slot EXCEPT ![Index(cursor["P"] + 1)][1] = Message(cursor["P"] + 1)]
  /\ IF Out("PublishHalf")
       THEN Goto("P", "filled") /\ cursor' = [cursor EXCEPT !["P"] = @ + 1]
       ELSE Goto("P", "header") /\ cursor' = cursor
  /\ UNCHANGED <<shared, seen, held, mark, irq, life, ghosts, cancels>>

Filled ==
  /\ Alive("P")
  /\ pc["P"] = "header"
  /\ slot' = [slot EXCEPT ![Index(cursor["P"] + 1)][2] = Message(cursor["P"] + 1)]
  /\ cursor' = [cursor EXCEPT !["P"] = @ + 1]
  /\ IF Out("NotifyBeforePublish")
       THEN Goto("P", "published") /\ seen' = [seen EXCEPT !["P"] = Own("P", "writePos")]
       ELSE Goto("P", "filled") /\ seen' = seen
  /\ UNCHANGED <<shared, held, mark, irq, life, ghosts, cancels>>

\* One more record before the batch is published.
BatchContinued ==
  /\ Alive("P")
  /\ pc["P"] = "filled"
  /\ cursor["P"] - Own("P", "writePos") < Batch /\ cursor["P"] < MaxMsg
  /\ Goto("P", "idle")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* A reservation is given back: its bytes stay where nobody looks.
Aborted ==
  /\ Alive("P") /\ Aborts
  /\ pc["P"] \in {"claimed", "header", "filled"}
  /\ Goto("P", "idle")
  /\ cursor' = [cursor EXCEPT !["P"] = Own("P", "writePos")]
  /\ UNCHANGED <<slot, shared, seen, held, mark, irq, life, ghosts, cancels>>

Commits(from) ==
  /\ Store("P", "writePos", cursor["P"])
  /\ log' = log \o [j \in 1..cursor["P"] - from |-> Message(from + j)]
  /\ UNCHANGED <<handed, fin, acct>>

\* The commit point.
Published ==
  /\ Alive("P")
  /\ pc["P"] = "filled" /\ HeldBack
  /\ Commits(Own("P", "writePos"))
  /\ Goto("P", IF (Out("PublishBeforeFill") \/ Out("PublishHalf")) THEN "late" ELSE "published")
  /\ seen' = [seen EXCEPT !["P"] = Own("P", "writePos")]
  /\ UNCHANGED <<slot, cursor, held, mark, irq, life, cancels>>

\* Of the mutants that publish too early: what should have been stored before.
LateFilled ==
  /\ Alive("P")
  /\ pc["P"] = "late"
  /\ slot' = [slot EXCEPT ![Index(cursor["P"])] = <<Message(cursor["P"]), Message(cursor["P"])>>]
  /\ Goto("P", "published")
  /\ UNCHANGED <<shared, locals, irq, life, ghosts, cancels>>

\* Of the mutant that notifies too early.
LatePublished ==
  /\ Alive("P")
  /\ pc["P"] = "late2"
  /\ Commits(Own("P", "writePos"))
  /\ Goto("P", "idle")
  /\ UNCHANGED <<slot, locals, irq, life, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* Notifying, the same for both sides: the position has moved from         *)
(* seen[r] to what it is now; the peer is woken if and only if it waits    *)
(* for a place in between (W1). Fence, load and wake are apart.            *)
(***************************************************************************)

Crosses(r, waitFor, new) ==
  CASE Out("WakeExact") -> waitFor = new
    [] Out("WakeBelow") -> seen[r] < waitFor /\ waitFor < new
    [] Out("WakeNever") -> FALSE
    [] OTHER -> seen[r] < waitFor /\ waitFor <= new

AfterNotify(r) == IF r = "P" /\ Out("NotifyBeforePublish") THEN "late2" ELSE "idle"

LoadsWaitFor(r, l) ==
  /\ Alive(r)
  /\ pc[r] = l
  /\ Fenced(r) \/ Out(IF r = "P" THEN "NoFenceProducer" ELSE "NoFenceConsumer")
  /\ LET new == IF Out("NotifyBeforePublish") THEN cursor[r] ELSE Own(r, PosOf(r))
     IN Goto(r, IF Crosses(r, mem[WaitOf(Peer(r))], new) THEN "notify" ELSE AfterNotify(r))
  /\ seen' = [seen EXCEPT ![r] = 0]
  /\ UNCHANGED <<slot, shared, cursor, held, mark, irq, life, ghosts, cancels>>

DataWaitLoaded == LoadsWaitFor("P", "published")
SpaceWaitLoaded == LoadsWaitFor("C", "released")

\* FUTEX_WAKE on the position: whoever is queued on it leaves the queue.
Wakes(r) ==
  /\ Alive(r)
  /\ pc[r] = "notify"
  /\ pc' = [pc EXCEPT ![r] = AfterNotify(r),
                      ![Peer(r)] = IF @ \in {"sleep2", "asleep"} THEN "woken" ELSE @]
  /\ stale' = [stale EXCEPT ![Peer(r)] = IF pc[Peer(r)] = "sleep2" THEN FALSE ELSE @]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

Notified == Wakes("P")
ReleaseNotified == Wakes("C")

----------------------------------------------------------------------------
(***************************************************************************)
(* The consumer: peek, mark delivered, hand out, release, notify.          *)
(***************************************************************************)

\* The record's header is loaded and checked. A batch takes more than one.
Peeked ==
  /\ Alive("C")
  /\ pc["C"] = "found"
  /\ \E k \in 1..Batch :
       /\ k <= seen["C"] - cursor["C"] /\ held + k <= Hold
       /\ seen' = [seen EXCEPT !["C"] = cursor["C"] + k]
  /\ Goto("C", IF Out("DeliveredLate") THEN "delivered" ELSE "peeked")
  /\ UNCHANGED <<slot, shared, cursor, held, mark, irq, life, ghosts, cancels>>

\* W7: deliveredPos is stored before the hand-out, and it never goes back.
Delivered ==
  /\ Alive("C")
  /\ pc["C"] = "peeked"
  /\ LET to == IF Out("DeliveredLate") THEN cursor["C"] ELSE seen["C"]
     IN IF to > Own("C", "deliveredPos") \/ Out("DeliveredBack")
          THEN Store("C", "deliveredPos", to)
          ELSE UNCHANGED shared
  /\ Goto("C", IF Out("DeliveredLate") THEN "idle" ELSE "delivered")
  /\ UNCHANGED <<slot, locals, irq, life, ghosts, cancels>>

\* The user has it: a view of the ring, until it is released.
HandedOut ==
  /\ Alive("C")
  /\ pc["C"] = "delivered"
  /\ cursor' = [cursor EXCEPT !["C"] = seen["C"]]
  /\ held' = held + seen["C"] - cursor["C"]
  /\ seen' = [seen EXCEPT !["C"] = 0]
  /\ Goto("C", IF Out("DeliveredLate") THEN "peeked" ELSE "idle")
  /\ UNCHANGED <<slot, shared, mark, irq, life, ghosts, cancels>>

\* The user gives back the oldest of what it holds, or all of it.
Released ==
  /\ Alive("C")
  /\ IF Out("ReleaseAtPeek") THEN pc["C"] = "found" ELSE pc["C"] = "idle" /\ held > 0
  /\ LET old == Own("C", "readPos")
         last == IF Out("ReleaseAtPeek") THEN seen["C"] ELSE cursor["C"]
     IN \E to \in old + 1..last :
          /\ Store("C", "readPos", IF Out("ReleaseAll") THEN mem["writePos"] ELSE to)
          /\ held' = IF (Out("ReleaseBeforeCopy") \/ Out("ReleaseAtPeek")) THEN held
                   ELSE held - (to - old)
          /\ seen' = [seen EXCEPT !["C"] = old]
  /\ Goto("C", "released")
  /\ UNCHANGED <<slot, cursor, mark, irq, life, ghosts, cancels>>

\* Of the mutant that releases before it has copied: now it has.
LateCopied ==
  /\ Alive("C") /\ Out("ReleaseBeforeCopy")
  /\ pc["C"] = "idle" /\ held > 0 /\ Own("C", "readPos") = cursor["C"]
  /\ held' = 0
  /\ UNCHANGED <<slot, shared, pc, cursor, seen, mark, irq, life, ghosts, cancels>>

\* Receive has returned the end of the producer: a client stops there, a server
\* goes on with the next client.
EndTaken ==
  /\ Alive("C")
  /\ pc["C"] = "told"
  /\ Goto("C", IF Client = "C" THEN "ended" ELSE "idle")
  /\ ends' = [ends EXCEPT !["C"] = Tail(@)]
  /\ fin' = IF fin = <<>> THEN fin ELSE Tail(fin)
  /\ UNCHANGED <<slot, shared, locals, cancel, stale, watch, canc, life, log, handed, acct, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The end of the peer, and cancelling: set the flag, then raise the       *)
(* counter, then wake (W3).                                                *)
(***************************************************************************)

Raises(r) == stale' = IF Loaded(r) THEN [stale EXCEPT ![r] = TRUE] ELSE stale
WakesOwn(r) == pc' = IF pc[r] = "asleep" THEN [pc EXCEPT ![r] = "woken"] ELSE pc

\* EOF on the socket, and the kernel has freed the lock: the peer is gone.
EndProven(r) ==
  /\ Alive(r)
  /\ watch[r] = "watching" /\ ~up[Peer(r)]
  /\ watch' = [watch EXCEPT ![r] = "proven"]
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, stale, canc, life, ghosts, cancels>>

\* Its last positions are read and recorded; that is the flag. A server's
\* producer goes on with the next client, so for it there is no end to report.
AccountTaken(r) ==
  /\ Alive(r)
  /\ watch[r] = "proven"
  /\ watch' = [watch EXCEPT ![r] = IF Out("NoInterrupt") THEN "gone" ELSE "taken"]
  /\ IF r = "P"
       THEN /\ acct' = <<mem["readPos"], mem["deliveredPos"]>>
            /\ ends' = IF Client = "P" THEN [ends EXCEPT !["P"] = <<0>>] ELSE ends
       ELSE /\ acct' = acct
            /\ ends' = [ends EXCEPT !["C"] = Append(@, mem["writePos"])]
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, stale, canc, life, log, handed, fin, cancels>>

Interrupted(r) ==
  /\ Alive(r)
  /\ watch[r] = "taken"
  /\ watch' = [watch EXCEPT ![r] = IF Out("NoInterruptWake") THEN "gone" ELSE "raised"]
  /\ Raises(r)
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, canc, life, ghosts, cancels>>

InterruptNotified(r) ==
  /\ Alive(r)
  /\ watch[r] = "raised"
  /\ watch' = [watch EXCEPT ![r] = "gone"]
  /\ WakesOwn(r)
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, stale, canc, life, ghosts, cancels>>

Cancelled(r) ==
  /\ Alive(r)
  /\ canc[r] = "none" /\ cancels[r] > 0
  /\ canc' = [canc EXCEPT ![r] = "set"]
  /\ cancels' = [cancels EXCEPT ![r] = @ - 1]
  /\ IF Out("CountBeforeFlag")
       THEN Raises(r) /\ cancel' = cancel
       ELSE cancel' = [cancel EXCEPT ![r] = TRUE] /\ stale' = stale
  /\ UNCHANGED <<slot, shared, pc, locals, ends, watch, life, ghosts>>

CancelRaised(r) ==
  /\ Alive(r)
  /\ canc[r] = "set"
  /\ canc' = [canc EXCEPT ![r] = "raised"]
  /\ IF Out("CountBeforeFlag")
       THEN WakesOwn(r) /\ UNCHANGED stale
       ELSE Raises(r) /\ UNCHANGED pc
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, life, ghosts, cancels>>

CancelNotified(r) ==
  /\ Alive(r)
  /\ canc[r] = "raised"
  /\ canc' = [canc EXCEPT ![r] = "none"]
  /\ IF Out("CountBeforeFlag")
       THEN cancel' = [cancel EXCEPT ![r] = TRUE] /\ UNCHANGED pc
       ELSE WakesOwn(r) /\ UNCHANGED cancel
  /\ UNCHANGED <<slot, shared, locals, ends, stale, watch, life, ghosts, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* Death, freezing, the next client, the next generation.                  *)
(***************************************************************************)

Killed(r) ==
  /\ up[r]
  /\ kills[r] > 0
  /\ kills' = [kills EXCEPT ![r] = @ - 1]
  /\ up' = [up EXCEPT ![r] = FALSE]
  /\ frozen' = [frozen EXCEPT ![r] = FALSE]
  /\ mem' = Apply(mem, buf[r])
  /\ buf' = [buf EXCEPT ![r] = <<>>]
  /\ pc' = [pc EXCEPT ![r] = "dead"]
  /\ cursor' = [cursor EXCEPT ![r] = 0]
  /\ seen' = [seen EXCEPT ![r] = 0]
  /\ cancel' = [cancel EXCEPT ![r] = FALSE]
  /\ ends' = [ends EXCEPT ![r] = <<>>]
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ watch' = [watch EXCEPT ![r] = "gone"]
  /\ canc' = [canc EXCEPT ![r] = "none"]
  /\ IF r = "C"
       THEN /\ handed' = Larger(handed, cursor["C"])
            /\ held' = 0 /\ mark' = 0 /\ fin' = <<>>
       ELSE /\ fin' = IF up["C"] THEN Append(fin, Len(log)) ELSE fin
            /\ UNCHANGED <<handed, held, mark>>
  /\ UNCHANGED <<slot, gen, log, acct, cancels, freezes>>

Frozen(r) ==
  /\ Alive(r)
  /\ freezes[r] > 0
  /\ freezes' = [freezes EXCEPT ![r] = @ - 1]
  /\ frozen' = [frozen EXCEPT ![r] = TRUE]
  /\ UNCHANGED <<slot, shared, pc, locals, irq, up, kills, gen, ghosts, cancels>>

\* The next client is admitted, once the former one's account is taken. It
\* reads where its predecessor left off and stores nothing yet.
SegmentsMapped ==
  /\ ~up[Client] /\ Alive(Server)
  /\ Out("AdmitBehindSend") => pc[Server] # "asleep"
  /\ watch[Server] = "gone" \/ Out("AdmitBeforeAccount")
  /\ up' = [up EXCEPT ![Client] = TRUE]
  /\ pc' = [pc EXCEPT ![Client] = "mapped"]
  /\ watch' = [watch EXCEPT ![Client] = "watching",
                            ![Server] = IF @ = "gone" THEN "watching" ELSE @]
  /\ cursor' = [cursor EXCEPT ![Client] =
       CASE Out("StartAtDelivered") -> mem["deliveredPos"]
         [] Out("StartAtRead") -> mem["readPos"]
         [] OTHER -> mem[PosOf(Client)]]
  /\ IF Client = "C"
       THEN /\ acct' = <<>>
            /\ mark' = CASE Out("MarkLost") -> 0
                         [] Out("MarkAll") -> mem["writePos"]
                         [] OTHER -> mem["deliveredPos"]
       ELSE UNCHANGED <<acct, mark>>
  /\ UNCHANGED <<slot, shared, seen, held, cancel, ends, stale, canc, frozen, kills, freezes, gen, log, handed, fin, cancels>>

\* Its predecessor's waiting word is cleared.
WaitsCleared ==
  /\ Alive(Client)
  /\ pc[Client] = "mapped"
  /\ IF Out("DeliveredReset") /\ Client = "C"
       THEN Store("C", "deliveredPos", mem["readPos"])
       ELSE IF Out("WaitsKept") THEN UNCHANGED shared ELSE Store(Client, WaitOf(Client), 0)
  /\ Goto(Client, "idle")
  /\ UNCHANGED <<slot, locals, irq, life, ghosts, cancels>>

\* Both are gone: the next server makes fresh memory.
NewGeneration ==
  /\ ~up["P"] /\ ~up["C"]
  /\ gen < MaxGen
  /\ gen' = gen + 1
  /\ IF Out("MemoryKept")
       THEN UNCHANGED <<mem, slot>>
       ELSE /\ mem' = [w \in Word |-> 0]
            /\ slot' = [i \in 0..Cap - 1 |-> <<0, 0>>]
  /\ up' = [r \in Role |-> TRUE]
  /\ pc' = [r \in Role |-> "idle"]
  /\ watch' = [r \in Role |-> "watching"]
  /\ cursor' = [r \in Role |-> IF Out("MemoryKept") THEN mem[PosOf(r)] ELSE 0]
  /\ log' = <<>> /\ handed' = 0 /\ fin' = <<>> /\ acct' = <<>>
  /\ UNCHANGED <<buf, seen, held, mark, cancel, ends, stale, canc, frozen, kills, freezes, cancels>>

Next ==
  \/ \E r \in Role : Drained(r)
  \/ \E r \in Role : CountLoaded(r)
  \/ \E r \in Role : FlagsLoaded(r)
  \/ \E r \in Role : PositionLoaded(r)
  \/ Claimed
  \/ FlushNeeded
  \/ SpaceNeeded
  \/ SendFailed
  \/ DataFound
  \/ EndReported
  \/ ViewsHeld
  \/ DataNeeded
  \/ SpaceArmed
  \/ DataArmed
  \/ \E r \in Role : Sleeping(r)
  \/ \E r \in Role : Slept(r)
  \/ \E r \in Role : Woken(r)
  \/ \E r \in Role : WokenForNothing(r)
  \/ \E r \in Role : TimedOut(r)
  \/ \E r \in Role : Disarmed(r)
  \/ HeaderStored
  \/ Filled
  \/ BatchContinued
  \/ Aborted
  \/ Published
  \/ LateFilled
  \/ LatePublished
  \/ DataWaitLoaded
  \/ Notified
  \/ Peeked
  \/ Delivered
  \/ HandedOut
  \/ Released
  \/ LateCopied
  \/ SpaceWaitLoaded
  \/ ReleaseNotified
  \/ EndTaken
  \/ \E r \in Role : EndProven(r)
  \/ \E r \in Role : AccountTaken(r)
  \/ \E r \in Role : Interrupted(r)
  \/ \E r \in Role : InterruptNotified(r)
  \/ \E r \in Role : Cancelled(r)
  \/ \E r \in Role : CancelRaised(r)
  \/ \E r \in Role : CancelNotified(r)
  \/ \E r \in Role : Killed(r)
  \/ \E r \in Role : Frozen(r)
  \/ SegmentsMapped
  \/ WaitsCleared
  \/ NewGeneration

Spec == Init /\ [][Next]_vars

----------------------------------------------------------------------------
(***************************************************************************)
(* What the ring promises beyond Channel: nobody sleeps for ever.          *)
(***************************************************************************)

\* What r waits for is there.
Due(r) ==
  \/ cancel[r]
  \/ ends[r] # <<>>
  \/ IF r = "P" THEN cursor["P"] - mem["readPos"] < Cap ELSE mem["writePos"] > cursor["C"]

\* Somebody is on the way to wake r: the peer between its store and its wake,
\* r's own watcher or canceller, or the kernel with the news of a death.
WakeComes(r) ==
  \/ pc[Peer(r)] \in {"published", "released", "notify", "late", "late2"}
  \/ watch[r] \in {"proven", "taken", "raised"}
  \/ watch[r] = "watching" /\ ~up[Peer(r)]
  \/ canc[r] # "none"

Stuck(r) == up[r] /\ pc[r] = "asleep" /\ ~WakeComes(r)

\* M7 NoStuckWaiter, without the help of time-outs: nobody sleeps on something
\* that has happened with nobody on the way to say so, and the two never wait
\* for each other.
M7 ==
  /\ \A r \in Role : Stuck(r) => ~Due(r)
  /\ ~(Stuck("P") /\ Stuck("C"))

----------------------------------------------------------------------------
(***************************************************************************)
(* What must happen in the end. Each goroutine and each store buffer goes  *)
(* on, unless its process is frozen or dead; the next client comes. Nobody *)
(* must die, freeze, cancel or be woken for nothing.                       *)
(***************************************************************************)

Waits(r) ==
  \/ CountLoaded(r) \/ Woken(r) \/ FlagsLoaded(r) \/ PositionLoaded(r)
  \/ Sleeping(r) \/ Slept(r) \/ Disarmed(r)

Produces ==
  \/ Waits("P")
  \/ Claimed \/ FlushNeeded \/ SpaceNeeded \/ SendFailed \/ SpaceArmed
  \/ HeaderStored \/ Filled \/ Published \/ LateFilled \/ LatePublished
  \/ DataWaitLoaded \/ Notified

Consumes ==
  \/ Waits("C")
  \/ DataFound \/ EndReported \/ ViewsHeld \/ DataNeeded \/ DataArmed
  \/ Peeked \/ Delivered \/ HandedOut \/ Released
  \/ SpaceWaitLoaded \/ ReleaseNotified \/ EndTaken

Watches(r) == EndProven(r) \/ AccountTaken(r) \/ Interrupted(r) \/ InterruptNotified(r)
CancelGoesOn(r) == CancelRaised(r) \/ CancelNotified(r)

Fair ==
  /\ WF_vars(Produces)
  /\ WF_vars(Consumes)
  /\ WF_vars(SegmentsMapped)
  /\ WF_vars(WaitsCleared)
  /\ \A r \in Role : /\ WF_vars(Drained(r))
                     /\ WF_vars(Watches(r))
                     /\ WF_vars(CancelGoesOn(r))
                     /\ WF_vars(TimedOut(r))

FairSpec == Spec /\ Fair

\* M1: what is committed is released in the end, while the server lives.
M1_Live == \A i \in 1..MaxMsg : (Len(log) >= i) ~> (mem["readPos"] >= i \/ ~up[Server])

\* M5: every end of a producer is reported in the end, unless the consumer dies too.
M5_Live == (fin # <<>>) ~> (fin = <<>>)

\* M7: whoever sleeps on something that has happened wakes up, even if the peer
\* has frozen between its store and its wake.
M7_Live == \A r \in Role : (pc[r] = "asleep" /\ Due(r)) ~> (pc[r] # "asleep")

\* L7: after finitely many deaths of clients the pair works again.
L7_Live == <>(mem["readPos"] = MaxMsg \/ ~up[Server])

----------------------------------------------------------------------------
TypeOK ==
  /\ \A w \in Word : mem[w] \in 0..MaxMsg + 1
  /\ \A r \in Role : /\ cursor[r] \in 0..MaxMsg
                     /\ Len(buf[r]) <= 4
                     /\ stale[r] => Loaded(r)
  /\ held \in 0..Hold
  /\ mark \in 0..MaxMsg
  /\ up["C"] => cursor["C"] - held <= MaxMsg
=============================================================================
