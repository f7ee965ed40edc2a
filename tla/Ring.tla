-------------------------------- MODULE Ring --------------------------------
(***************************************************************************)
(* One direction at the code's own grain: a ring in shared memory, its     *)
(* doorbell, and what each side knows of the other's end. One action is    *)
(* one load or store of a word that somebody else can see, or one system   *)
(* call; where the code has a named step (package internal/step), the action    *)
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
(* Three goroutines use the direction: the producer "P", the consumer "C",  *)
(* and "R", who releases what the consumer took: in the code any goroutine *)
(* that holds a message, one at a time. A copying receive is the case in   *)
(* which "R" acts at once. What a process keeps of a position that it has  *)
(* seen (seenPos) is an earlier load of it and lets nothing happen that a  *)
(* load now would not, so it is left out.                                  *)
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
  Eager,    \* for liveness: what is handed out is released in the end
  Idle,     \* sleeps end for no reason (signals, time-outs of the heartbeat)
  Left      \* the rules that are left out, by the name of the fault; {} for none

VARIABLES
  \* shared memory and what is on its way to it
  mem,      \* [Word -> Nat]
  slot,     \* [0..Cap-1 -> <<first half, second half>>]
  buf,      \* [Thread -> Seq(<<word, value>>)]
  \* private to each side
  up,       \* [Role -> BOOLEAN]: a process lives
  frozen,   \* [Role -> BOOLEAN]
  pc,       \* [Thread -> where it stands]
  cursor,   \* P: records filled up to here; C: messages handed out up to here
  seen,     \* [Thread -> the peer's position that was decided on, or the own one before it moved]
  stop,     \* [Role -> BOOLEAN]: the flags, as they were loaded
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
locals == <<cursor, seen, stop, held, mark>>
irq    == <<cancel, ends, stale, watch, canc>>
life   == <<up, frozen, kills, freezes, gen>>
ghosts == <<log, handed, fin, acct>>

vars == <<mem, slot, buf, up, frozen, pc, cursor, seen, stop, held, mark, cancel, ends, stale, watch, canc,
          gen, log, handed, fin, acct, kills, cancels, freezes>>

Role == {"P", "C"}
Thread == {"P", "C", "R"}
RoleOf(t) == IF t = "P" THEN "P" ELSE "C"
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

Alive(t) == up[RoleOf(t)] /\ ~frozen[RoleOf(t)]

WritePos == Own("P", "writePos")
ReadPos == Own("R", "readPos")
DeliveredPos == Own("C", "deliveredPos")

Index(i) == (i - 1) % Cap

\* Who committed it where: no two messages are equal.
Message(i) == 100 * gen + (IF Client = "P" THEN 10 * (Kills["P"] - kills["P"]) ELSE 0) + i

Init ==
  /\ mem = [w \in Word |-> 0]
  /\ slot = [i \in 0..Cap - 1 |-> <<0, 0>>]
  /\ buf = [t \in Thread |-> <<>>]
  /\ up = [r \in Role |-> TRUE]
  /\ frozen = [r \in Role |-> FALSE]
  /\ pc = [t \in Thread |-> "idle"]
  /\ cursor = [r \in Role |-> 0]
  /\ seen = [t \in Thread |-> 0]
  /\ stop = [r \in Role |-> FALSE]
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

Drained(t) ==
  /\ buf[t] # <<>>
  /\ mem' = [mem EXCEPT ![buf[t][1][1]] = buf[t][1][2]]
  /\ buf' = [buf EXCEPT ![t] = Tail(@)]
  /\ UNCHANGED <<slot, pc, locals, irq, life, ghosts, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The wait loop (W2), nearly the same for both sides: the producer waits  *)
(* for readPos, the consumer for writePos. The interrupt counter first,    *)
(* then the flags, then the peer's position and its recorded end; decide.  *)
(*                                                                         *)
(* The counter appears as stale: set by whoever raises it, cleared by      *)
(* loading it. That is exact as long as the counter does not wrap round    *)
(* between a load and the compare.                                         *)
(***************************************************************************)

\* Where a loaded counter is still to be compared.
Loaded(r) == pc[r] \in {"flags", "end", "position", "views", "late", "arm", "sleep", "sleep2"}

Goto(t, l) == pc' = [pc EXCEPT ![t] = l]

Wanted(r) == IF r = "P" THEN cursor["P"] < MaxMsg ELSE held < Hold

\* Each action has a guard of its own: a definition that is another operator and
\* nothing else the checker calls by the name of that one.
Looks(r) ==
  /\ Alive(r)
  /\ Goto(r, "flags")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

CountLoaded(r) == pc[r] = "idle" /\ Wanted(r) /\ Looks(r)

\* Back from the sleep, and round again, the counter first.
Woken(r) == pc[r] = "woken" /\ Looks(r)

\* What the flags say counts only if there is nothing to go on with.
FlagsLoaded(r) ==
  /\ pc[r] = "flags"
  /\ Alive(r)
  /\ stop' = [stop EXCEPT ![r] = cancel[r]]
  /\ Goto(r, IF r = "P" THEN "end" ELSE "position")
  /\ UNCHANGED <<slot, shared, cursor, seen, held, mark, irq, life, ghosts, cancels>>

\* Of the mutant that loads the counter behind the flags.
CountLate(r) ==
  /\ pc[r] = (IF r = "P" THEN "end" ELSE "position") /\ stale[r]
  /\ Alive(r) /\ Out("CounterAfterFlags")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

\* The waiter's target: the position that would do.
Target(r) == IF r = "P" THEN cursor["P"] + 1 - Cap ELSE cursor["C"] + 1
IsArmed(r) == Target(r) > 0 /\ Own(r, WaitOf(r)) = Target(r)

\* The end of a look: l is where the call goes on, s the position decided on. A
\* waiter that gives up lowers its word first, if it had raised it.
Decides(r, l, s) ==
  /\ Goto(r, l)
  /\ seen' = [seen EXCEPT ![r] = s]
  /\ stop' = [stop EXCEPT ![r] = FALSE]
  /\ stale' = IF l \in {"arm", "late"} THEN stale ELSE [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

GivesUp(r, l) == IF IsArmed(r) THEN "disarm " \o l ELSE l

\* The producer looks for the end of its peer, then for space. A server has no
\* end to look for: it goes on with the next client.
SendOpen ==
  /\ pc["P"] = "end" /\ ends["P"] = <<>>
  /\ Alive("P")
  /\ Goto("P", "position")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* The server is gone: a client's Send fails, now and for ever.
SendFailed ==
  /\ pc["P"] = "end" /\ ends["P"] # <<>>
  /\ Alive("P")
  /\ Decides("P", GivesUp("P", "ended"), 0)

Space == IF Out("SpaceOffByOne") THEN cursor["P"] - mem["readPos"] <= Cap ELSE cursor["P"] - mem["readPos"] < Cap

Claimed ==
  /\ pc["P"] = "position" /\ Space
  /\ Alive("P")
  /\ Decides("P", IF Out("PublishBeforeFill") THEN "early" ELSE "claimed", 0)

SpaceNeeded ==
  /\ pc["P"] = "position" /\ ~Space /\ ~stop["P"]
  /\ Alive("P")
  /\ Decides("P", "arm", mem["readPos"])

SendStopped ==
  /\ pc["P"] = "position" /\ ~Space /\ stop["P"]
  /\ Alive("P")
  /\ Decides("P", GivesUp("P", "idle"), 0)

\* The consumer loads the peer's position, then looks for recorded ends. What
\* the ended one committed comes first, then its end, then its successor's.
PositionLoaded ==
  /\ pc["C"] = "position"
  /\ Alive("C")
  /\ Goto("C", "end")
  /\ seen' = [seen EXCEPT !["C"] = mem["writePos"]]
  /\ UNCHANGED <<slot, shared, cursor, stop, held, mark, irq, life, ghosts, cancels>>

Limit ==
  CASE ends["C"] = <<>> -> seen["C"]
    [] Out("PositionBeforeEnd") -> Smaller(seen["C"], Head(ends["C"]))
    [] Out("DrainSkipped") -> cursor["C"]
    [] Out("EndNoLimit") -> Larger(seen["C"], Head(ends["C"]))
    [] OTHER -> Head(ends["C"])

AtEnd == pc["C"] = "end" /\ Alive("C")
Nothing == Limit <= cursor["C"] /\ ends["C"] = <<>> /\ ~Out("PositionAfterEnd")

DataFound ==
  /\ AtEnd
  /\ Limit > cursor["C"]
  /\ Decides("C", "found", Limit)

EndReported ==
  /\ AtEnd
  /\ Limit <= cursor["C"] /\ ends["C"] # <<>>
  /\ Goto("C", GivesUp("C", "told"))
  /\ ends' = [ends EXCEPT !["C"] = Tail(@)]
  /\ seen' = [seen EXCEPT !["C"] = 0]
  /\ stop' = [stop EXCEPT !["C"] = FALSE]
  /\ stale' = [stale EXCEPT !["C"] = FALSE]
  /\ UNCHANGED <<slot, shared, cursor, held, mark, cancel, watch, canc, life, ghosts, cancels>>

\* Of the mutant that loads the position once more when it found no end.
PositionLate ==
  \/ /\ AtEnd /\ Out("PositionAfterEnd")
     /\ Limit <= cursor["C"] /\ ends["C"] = <<>>
     /\ Decides("C", "late", seen["C"])
  \/ /\ Alive("C") /\ pc["C"] = "late"
     /\ Decides("C", IF mem["writePos"] > cursor["C"] THEN "found" ELSE "arm", mem["writePos"])

DataNeeded ==
  /\ AtEnd /\ Nothing
  /\ held = 0 /\ ~stop["C"]
  /\ Decides("C", "arm", seen["C"])

ReceiveStopped ==
  /\ AtEnd /\ Nothing
  /\ held = 0 /\ stop["C"]
  /\ Decides("C", GivesUp("C", "idle"), 0)

\* W8: a consumer that holds messages looks whether its peer waits for the space
\* that they take. The peer may begin to wait later: then a time-out brings the
\* consumer back here.
HoldsViews ==
  /\ AtEnd /\ Nothing
  /\ held > 0
  /\ Goto("C", "views")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

Starves == ReadPos < mem["spaceWaitFor"] /\ mem["spaceWaitFor"] <= cursor["C"] /\ ~Out("ViewsIgnored")

ViewsHeld ==
  /\ pc["C"] = "views" /\ Starves
  /\ Alive("C")
  /\ Decides("C", GivesUp("C", "idle"), 0)

ViewsFine ==
  /\ pc["C"] = "views" /\ ~Starves
  /\ Alive("C")
  /\ IF stop["C"] THEN Decides("C", GivesUp("C", "idle"), 0) ELSE Decides("C", "arm", seen["C"])

\* W1: the waiting word holds the position that would do.
ArmedAt(r, v) ==
  /\ Alive(r)
  /\ Store(r, WaitOf(r), v)
  /\ Goto(r, "sleep")
  /\ seen' = IF Out("StaleCompare") THEN [seen EXCEPT ![r] = mem[PosOf(Peer(r))]] ELSE seen
  /\ UNCHANGED <<slot, cursor, stop, held, mark, irq, life, ghosts, cancels>>

SpaceArmed == pc["P"] = "arm" /\ ArmedAt("P", Target("P"))
DataArmed == pc["C"] = "arm" /\ ArmedAt("C", Target("C") + (IF Out("ArmBeyond") THEN 1 ELSE 0))

\* futex_waitv queues on the first word and compares it: the peer's position ...
Sleeping(r) ==
  /\ pc[r] = "sleep"
  /\ Alive(r)
  /\ Fenced(r) \/ Out("NoWaiterFence")
  /\ LET same == mem[PosOf(Peer(r))] = seen[r] \/ Out("NoPositionCompare")
     IN /\ Goto(r, IF same THEN "sleep2" ELSE "woken")
        /\ stale' = IF same THEN stale ELSE [stale EXCEPT ![r] = FALSE]
  /\ seen' = [seen EXCEPT ![r] = 0]
  /\ UNCHANGED <<slot, shared, cursor, stop, held, mark, cancel, ends, watch, canc, life, ghosts, cancels>>

\* ... and then on the second: one's own interrupt counter.
Slept(r) ==
  /\ pc[r] = "sleep2"
  /\ Alive(r)
  /\ Goto(r, IF stale[r] /\ ~Out("NoCounterCompare") THEN "woken" ELSE "asleep")
  /\ stale' = [stale EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

\* A signal, or a wake meant for somebody who waited here before.
WokenForNothing(r) ==
  /\ pc[r] = "asleep"
  /\ Alive(r) /\ Idle
  /\ Goto(r, "woken")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* W5: a sleep is bounded by the heartbeat.
TimedOut(r) ==
  /\ pc[r] = "asleep"
  /\ Alive(r) /\ Idle /\ ~Out("SleepUnbounded")
  /\ Goto(r, "woken")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* A waiter that gives up leaves no waiting word behind.
Disarmed(r) ==
  /\ pc[r] \in {"disarm idle", "disarm told", "disarm ended"}
  /\ Alive(r)
  /\ IF Out("WaitsKept") THEN UNCHANGED shared ELSE Store(r, WaitOf(r), 0)
  /\ Goto(r, CASE pc[r] = "disarm told" -> "told"
               [] pc[r] = "disarm ended" -> "ended"
               [] OTHER -> "idle")
  /\ UNCHANGED <<slot, locals, irq, life, ghosts, cancels>>

\* The caller of a cancelled call comes back with another context.
Renewed(r) ==
  /\ pc[r] = "idle" /\ cancel[r] /\ canc[r] = "none"
  /\ Alive(r)
  /\ cancel' = [cancel EXCEPT ![r] = FALSE]
  /\ UNCHANGED <<slot, shared, pc, locals, ends, stale, watch, canc, life, ghosts, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The producer: claim, fill in two stores, publish, notify.               *)
(***************************************************************************)

HeldBack == cursor["P"] > WritePos

\* The payload, which takes many stores, and stands for all of them.
Filled ==
  /\ pc["P"] = "claimed"
  /\ Alive("P")
  /\ slot' = [slot EXCEPT ![Index(cursor["P"] + 1)][2] = Message(cursor["P"] + 1)]
  /\ Goto("P", IF Out("PublishHalf") THEN "early" ELSE "filled")
  /\ UNCHANGED <<shared, locals, irq, life, ghosts, cancels>>

\* The header: the record is whole.
Sealed ==
  /\ pc["P"] = "filled"
  /\ Alive("P")
  /\ slot' = [slot EXCEPT ![Index(cursor["P"] + 1)][1] = Message(cursor["P"] + 1)]
  /\ cursor' = [cursor EXCEPT !["P"] = @ + 1]
  /\ IF Out("NotifyBeforePublish")
       THEN Goto("P", "published") /\ seen' = [seen EXCEPT !["P"] = WritePos]
       ELSE Goto("P", "sealed") /\ seen' = seen
  /\ UNCHANGED <<shared, stop, held, mark, irq, life, ghosts, cancels>>

\* One more record before the batch is published, if there is room (W8).
BatchContinued ==
  /\ pc["P"] = "sealed"
  /\ Alive("P")
  /\ cursor["P"] - WritePos < Batch /\ cursor["P"] < MaxMsg
  /\ Space \/ Out("BatchHeldBack")
  /\ Goto("P", IF Space THEN "claimed" ELSE "idle")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

\* A reservation is given back: its bytes stay where nobody looks.
Aborted ==
  /\ pc["P"] \in {"claimed", "filled"} /\ ~HeldBack
  /\ Alive("P") /\ Aborts
  /\ Goto("P", "idle")
  /\ UNCHANGED <<slot, shared, locals, irq, life, ghosts, cancels>>

Commits ==
  /\ Store("P", "writePos", cursor'["P"])
  /\ log' = log \o [j \in 1..cursor'["P"] - WritePos |-> Message(WritePos + j)]
  /\ UNCHANGED <<handed, fin, acct>>

\* The commit point.
Published ==
  /\ pc["P"] = "sealed"
  /\ Alive("P")
  /\ cursor' = cursor
  /\ Commits
  /\ Goto("P", "published")
  /\ seen' = [seen EXCEPT !["P"] = WritePos]
  /\ UNCHANGED <<slot, stop, held, mark, irq, life, cancels>>

\* Of the mutants that publish too early; then comes what belonged before.
PublishedEarly ==
  \/ /\ Alive("P")
     /\ pc["P"] = "early"
     /\ cursor' = [cursor EXCEPT !["P"] = @ + 1]
     /\ Commits
     /\ Goto("P", "unfilled")
     /\ seen' = [seen EXCEPT !["P"] = WritePos]
     /\ UNCHANGED <<slot, stop, held, mark, irq, life, cancels>>
  \/ /\ Alive("P")
     /\ pc["P"] = "unfilled"
     /\ slot' = [slot EXCEPT ![Index(cursor["P"])] = <<Message(cursor["P"]), Message(cursor["P"])>>]
     /\ Goto("P", "published")
     /\ UNCHANGED <<shared, locals, irq, life, ghosts, cancels>>

\* Of the mutant that notifies too early.
PublishedLate ==
  /\ pc["P"] = "unpublished"
  /\ Alive("P")
  /\ cursor' = cursor
  /\ Commits
  /\ Goto("P", "idle")
  /\ UNCHANGED <<slot, seen, stop, held, mark, irq, life, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* Notifying, the same for both sides: the position has moved from         *)
(* seen[t] to what it is now; the peer is woken if and only if it waits    *)
(* for a place in between (W1). Fence, load and wake are apart.            *)
(***************************************************************************)

Crosses(t, waitFor, new) ==
  CASE Out("WakeExact") -> waitFor = new
    [] Out("WakeBelow") -> seen[t] < waitFor /\ waitFor < new
    [] Out("WakeNever") -> FALSE
    [] OTHER -> seen[t] < waitFor /\ waitFor <= new

AfterNotify(t) == IF t = "P" /\ Out("NotifyBeforePublish") THEN "unpublished" ELSE "idle"

LoadsWaitFor(t, new) ==
  /\ Alive(t)
  /\ Fenced(t) \/ Out(IF t = "P" THEN "NoFenceProducer" ELSE "NoFenceConsumer")
  /\ Goto(t, IF Crosses(t, mem[WaitOf(Peer(RoleOf(t)))], new) THEN "notify" ELSE AfterNotify(t))
  /\ seen' = [seen EXCEPT ![t] = 0]
  /\ UNCHANGED <<slot, shared, cursor, stop, held, mark, irq, life, ghosts, cancels>>

DataWaitLoaded == pc["P"] = "published" /\ LoadsWaitFor("P", cursor["P"])
SpaceWaitLoaded == pc["R"] = "released" /\ LoadsWaitFor("R", ReadPos)

\* FUTEX_WAKE on the position: whoever is queued on it leaves the queue.
Wakes(t) ==
  /\ Alive(t)
  /\ LET r == Peer(RoleOf(t))
     IN /\ pc' = [pc EXCEPT ![t] = AfterNotify(t),
                            ![r] = IF @ \in {"sleep2", "asleep"} THEN "woken" ELSE @]
        /\ stale' = [stale EXCEPT ![r] = IF pc[r] = "sleep2" THEN FALSE ELSE @]
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, canc, life, ghosts, cancels>>

Notified == pc["P"] = "notify" /\ Wakes("P")
ReleaseNotified == pc["R"] = "notify" /\ Wakes("R")

----------------------------------------------------------------------------
(***************************************************************************)
(* The consumer: peek, mark delivered, hand out, release, notify.          *)
(***************************************************************************)

\* The record's header is loaded and checked. A batch takes more than one.
Peeked ==
  /\ pc["C"] = "found"
  /\ Alive("C")
  /\ \E k \in 1..Batch :
       /\ k <= seen["C"] - cursor["C"] /\ held + k <= Hold
       /\ seen' = [seen EXCEPT !["C"] = cursor["C"] + k]
  /\ Goto("C", IF Out("DeliveredLate") THEN "delivered" ELSE "peeked")
  /\ UNCHANGED <<slot, shared, cursor, stop, held, mark, irq, life, ghosts, cancels>>

\* W7: deliveredPos is stored before the hand-out, and it never goes back.
Delivered ==
  /\ pc["C"] = "peeked"
  /\ Alive("C")
  /\ LET to == IF Out("DeliveredLate") THEN cursor["C"] ELSE seen["C"]
     IN IF to > DeliveredPos \/ Out("DeliveredBack")
          THEN Store("C", "deliveredPos", to)
          ELSE UNCHANGED shared
  /\ Goto("C", IF Out("DeliveredLate") THEN "idle" ELSE "delivered")
  /\ UNCHANGED <<slot, locals, irq, life, ghosts, cancels>>

\* The user has it: a view of the ring, until it is released.
HandedOut ==
  /\ pc["C"] = "delivered"
  /\ Alive("C")
  /\ cursor' = [cursor EXCEPT !["C"] = seen["C"]]
  /\ held' = held + seen["C"] - cursor["C"]
  /\ seen' = [seen EXCEPT !["C"] = 0]
  /\ Goto("C", IF Out("DeliveredLate") THEN "peeked" ELSE "idle")
  /\ UNCHANGED <<slot, shared, stop, mark, irq, life, ghosts, cancels>>

\* The user gives back the oldest of what it holds, or all of it.
Released ==
  /\ pc["R"] = "idle"
  /\ Alive("R")
  /\ LET early == Out("ReleaseAtPeek") /\ pc["C"] = "peeked"
         last == IF early THEN seen["C"] ELSE cursor["C"]
     IN \E to \in ReadPos + 1..last :
          /\ Store("R", "readPos", IF Out("ReleaseAll") THEN WritePos ELSE to)
          /\ held' = IF early \/ Out("ReleaseBeforeCopy") THEN held ELSE held - (to - ReadPos)
  /\ seen' = [seen EXCEPT !["R"] = ReadPos]
  /\ Goto("R", "released")
  /\ UNCHANGED <<slot, cursor, stop, mark, irq, life, ghosts, cancels>>

\* Of the mutant that releases before it has copied: now it has.
CopiedLate ==
  /\ pc["R"] = "idle" /\ held > 0 /\ ReadPos = cursor["C"]
  /\ Alive("R") /\ Out("ReleaseBeforeCopy")
  /\ held' = 0
  /\ UNCHANGED <<slot, shared, pc, cursor, seen, stop, mark, irq, life, ghosts, cancels>>

\* Receive has returned the end of the producer: a client stops there, a server
\* goes on with the next client.
EndTaken ==
  /\ pc["C"] = "told"
  /\ Alive("C")
  /\ Goto("C", IF Client = "C" THEN "ended" ELSE "idle")
  /\ fin' = IF fin = <<>> THEN fin ELSE Tail(fin)
  /\ UNCHANGED <<slot, shared, locals, irq, life, log, handed, acct, cancels>>

----------------------------------------------------------------------------
(***************************************************************************)
(* The end of the peer, and cancelling: set the flag, then raise the       *)
(* counter, then wake (W3).                                                *)
(***************************************************************************)

Raises(r) == stale' = IF Loaded(r) THEN [stale EXCEPT ![r] = TRUE] ELSE stale
WakesOwn(r) == pc' = IF pc[r] = "asleep" THEN [pc EXCEPT ![r] = "woken"] ELSE pc

\* EOF on the socket, and the kernel has freed the lock: the peer is gone.
EndProven(r) ==
  /\ watch[r] = "watching" /\ ~up[Peer(r)]
  /\ Alive(r)
  /\ watch' = [watch EXCEPT ![r] = "proven"]
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, stale, canc, life, ghosts, cancels>>

\* Its last positions are read and recorded; that is the flag. A server's
\* producer goes on with the next client, so for it there is no end to report.
\* Each end is told by itself; the code tells those that wait behind 1,024 others as one,
\* which Channel allows (EndsMerged), and this module leaves out.
AccountTaken(r) ==
  /\ watch[r] = "proven"
  /\ Alive(r)
  /\ watch' = [watch EXCEPT ![r] = IF Out("NoInterrupt") THEN "gone" ELSE "taken"]
  /\ IF r = "P"
       THEN /\ acct' = <<mem["readPos"], mem["deliveredPos"]>>
            /\ ends' = IF Client = "P" THEN [ends EXCEPT !["P"] = <<0>>] ELSE ends
       ELSE /\ acct' = acct
            /\ ends' = [ends EXCEPT !["C"] = Append(@, mem["writePos"])]
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, stale, canc, life, log, handed, fin, cancels>>

Interrupted(r) ==
  /\ watch[r] = "taken"
  /\ Alive(r)
  /\ watch' = [watch EXCEPT ![r] = IF Out("NoInterruptWake") THEN "gone" ELSE "raised"]
  /\ Raises(r)
  /\ UNCHANGED <<slot, shared, pc, locals, cancel, ends, canc, life, ghosts, cancels>>

InterruptNotified(r) ==
  /\ watch[r] = "raised"
  /\ Alive(r)
  /\ watch' = [watch EXCEPT ![r] = "gone"]
  /\ WakesOwn(r)
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, stale, canc, life, ghosts, cancels>>

Cancelled(r) ==
  /\ canc[r] = "none" /\ cancels[r] > 0
  /\ Alive(r)
  /\ canc' = [canc EXCEPT ![r] = "set"]
  /\ cancels' = [cancels EXCEPT ![r] = @ - 1]
  /\ IF Out("CountBeforeFlag")
       THEN Raises(r) /\ cancel' = cancel
       ELSE cancel' = [cancel EXCEPT ![r] = TRUE] /\ stale' = stale
  /\ UNCHANGED <<slot, shared, pc, locals, ends, watch, life, ghosts>>

CancelRaised(r) ==
  /\ canc[r] = "set"
  /\ Alive(r)
  /\ canc' = [canc EXCEPT ![r] = "raised"]
  /\ IF Out("CountBeforeFlag")
       THEN WakesOwn(r) /\ UNCHANGED stale
       ELSE Raises(r) /\ UNCHANGED pc
  /\ UNCHANGED <<slot, shared, locals, cancel, ends, watch, life, ghosts, cancels>>

CancelNotified(r) ==
  /\ canc[r] = "raised"
  /\ Alive(r)
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
  /\ mem' = IF r = "P" THEN Apply(mem, buf["P"]) ELSE Apply(Apply(mem, buf["C"]), buf["R"])
  /\ buf' = [t \in Thread |-> IF RoleOf(t) = r THEN <<>> ELSE buf[t]]
  /\ pc' = [t \in Thread |-> IF RoleOf(t) = r THEN "dead" ELSE pc[t]]
  /\ cursor' = [cursor EXCEPT ![r] = 0]
  /\ seen' = [t \in Thread |-> IF RoleOf(t) = r THEN 0 ELSE seen[t]]
  /\ stop' = [stop EXCEPT ![r] = FALSE]
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
  /\ pc' = [t \in Thread |-> IF t = Client THEN "mapped"
                            ELSE IF RoleOf(t) = Client THEN "idle" ELSE pc[t]]
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
  /\ UNCHANGED <<slot, shared, seen, stop, held, cancel, ends, stale, canc, frozen, kills, freezes, gen, log, handed, fin, cancels>>

\* Its predecessor's waiting word is cleared.
ClearsWait(r) ==
  /\ Alive(r)
  /\ IF Out("DeliveredReset") /\ r = "C" THEN Store("C", "deliveredPos", mem["readPos"])
     ELSE IF Out("WaitsKept") THEN UNCHANGED shared
     ELSE Store(r, WaitOf(r), 0)
  /\ Goto(r, "idle")
  /\ UNCHANGED <<slot, locals, irq, life, ghosts, cancels>>

DataWaitCleared == Client = "C" /\ pc["C"] = "mapped" /\ ClearsWait("C")
SpaceWaitCleared == Client = "P" /\ pc["P"] = "mapped" /\ ClearsWait("P")

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
  /\ pc' = [t \in Thread |-> "idle"]
  /\ watch' = [r \in Role |-> "watching"]
  /\ cursor' = [r \in Role |-> IF Out("MemoryKept") THEN mem[PosOf(r)] ELSE 0]
  /\ log' = <<>> /\ handed' = 0 /\ fin' = <<>> /\ acct' = <<>>
  /\ UNCHANGED <<buf, seen, stop, held, mark, cancel, ends, stale, canc, frozen, kills, freezes, cancels>>

Next ==
  \/ \E t \in Thread : Drained(t)
  \/ \E r \in Role : CountLoaded(r)
  \/ \E r \in Role : Woken(r)
  \/ \E r \in Role : FlagsLoaded(r)
  \/ \E r \in Role : CountLate(r)
  \/ SendOpen
  \/ SendFailed
  \/ Claimed
  \/ SpaceNeeded
  \/ SendStopped
  \/ PositionLoaded
  \/ DataFound
  \/ EndReported
  \/ PositionLate
  \/ DataNeeded
  \/ ReceiveStopped
  \/ HoldsViews
  \/ ViewsHeld
  \/ ViewsFine
  \/ SpaceArmed
  \/ DataArmed
  \/ \E r \in Role : Sleeping(r)
  \/ \E r \in Role : Slept(r)
  \/ \E r \in Role : WokenForNothing(r)
  \/ \E r \in Role : TimedOut(r)
  \/ \E r \in Role : Disarmed(r)
  \/ \E r \in Role : Renewed(r)
  \/ Filled
  \/ Sealed
  \/ BatchContinued
  \/ Aborted
  \/ Published
  \/ PublishedEarly
  \/ PublishedLate
  \/ DataWaitLoaded
  \/ Notified
  \/ Peeked
  \/ Delivered
  \/ HandedOut
  \/ Released
  \/ CopiedLate
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
  \/ DataWaitCleared
  \/ SpaceWaitCleared
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
  \/ pc[IF r = "P" THEN "R" ELSE "P"] \in {"published", "released", "notify", "unfilled", "unpublished"}
  \/ watch[r] \in {"proven", "taken", "raised"}
  \/ watch[r] = "watching" /\ ~up[Peer(r)]
  \/ canc[r] # "none"

Stuck(r) == up[r] /\ pc[r] = "asleep" /\ ~WakeComes(r)

\* M7 NoStuckWaiter, without the help of time-outs: nobody sleeps on something
\* that has happened with nobody on the way to say so, and the two never wait
\* for each other (but see M7_Held).
M7 ==
  /\ \A r \in Role : Stuck(r) => ~Due(r)
  /\ ~(Stuck("P") /\ Stuck("C") /\ held = 0)

----------------------------------------------------------------------------
(***************************************************************************)
(* What must happen in the end. Each goroutine and each store buffer goes  *)
(* on, unless its process is frozen or dead; the next client comes. Nobody *)
(* must die, freeze, cancel or be woken for nothing.                       *)
(***************************************************************************)

Waits(r) == CountLoaded(r) \/ Woken(r) \/ FlagsLoaded(r) \/ Sleeping(r) \/ Slept(r) \/ Disarmed(r)

Produces ==
  \/ Waits("P")
  \/ SendOpen \/ SendFailed \/ Claimed \/ SpaceNeeded \/ SendStopped \/ SpaceArmed
  \/ Filled \/ Sealed \/ Published
  \/ DataWaitLoaded \/ Notified \/ SpaceWaitCleared

Consumes ==
  \/ Waits("C")
  \/ PositionLoaded \/ DataFound \/ EndReported \/ DataNeeded \/ ReceiveStopped
  \/ HoldsViews \/ ViewsHeld \/ ViewsFine \/ DataArmed
  \/ Peeked \/ Delivered \/ HandedOut \/ EndTaken \/ DataWaitCleared

Releases == Released \/ SpaceWaitLoaded \/ ReleaseNotified

Watches(r) == EndProven(r) \/ AccountTaken(r) \/ Interrupted(r) \/ InterruptNotified(r)
CancelGoesOn(r) == CancelRaised(r) \/ CancelNotified(r)

Fair ==
  /\ WF_vars(Produces)
  /\ WF_vars(Consumes)
  /\ Eager => WF_vars(Releases)
  /\ WF_vars(SegmentsMapped)
  /\ \A t \in Thread : WF_vars(Drained(t))
  /\ \A r \in Role : /\ WF_vars(Renewed(r))
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

\* M7, W8: a consumer that sleeps on the very space that its peer waits for is
\* told so; here it takes a time-out, if the peer began to wait later.
M7_Held ==
  (pc["P"] = "asleep" /\ pc["C"] = "asleep" /\ held = Cap)
    ~> (pc["C"] \in {"idle", "disarm idle"} \/ held < Cap)

----------------------------------------------------------------------------
TypeOK ==
  /\ \A w \in Word : mem[w] \in 0..MaxMsg + 1
  /\ \A r \in Role : /\ cursor[r] \in 0..MaxMsg
                     /\ stale[r] => Loaded(r)
  /\ \A t \in Thread : Len(buf[t]) <= 4
  /\ held \in 0..Hold
  /\ mark \in 0..MaxMsg
  /\ up["C"] => cursor["C"] - held <= MaxMsg
=============================================================================
