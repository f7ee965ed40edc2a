-------------------------------- MODULE Gate --------------------------------
(***************************************************************************)
(* Several goroutines of one process wait on one direction (W9). There is  *)
(* one waiting word, so they queue on a gate, which is held from before    *)
(* the arming until after the waking, and which a cancelled goroutine need *)
(* not wait for.                                                           *)
(*                                                                         *)
(* Who leaves the gate frees it, or hands it over, for the sake of one     *)
(* that has waited for long: how long is not modelled, so that it may      *)
(* always do either. A gate that is handed over is of whoever queues and   *)
(* claims it. One that was to have it may be leaving: so the one that      *)
(* hands it over looks at the queue after that, and the one that leaves    *)
(* looks at the gate after it has left.                                    *)
(*                                                                         *)
(* Goroutine g wants g units. The peer publishes one unit at a time. What  *)
(* Ring shows of the waiting itself is coarser here: the two compares of   *)
(* futex_waitv are one action, and memory has no buffers.                  *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Goroutines,  \* how many wait; number g wants g units
  Units,       \* how many the peer publishes
  Cancels,     \* how many goroutines may be cancelled
  Left         \* the rules that are left out

VARIABLES
  pos,         \* the peer's position
  taken,       \* units that were taken up to now
  waitFor,     \* the waiting word: an event index
  gate,        \* who holds it; 0 for nobody, Handed for whoever claims it
  pc,          \* where each goroutine stands
  seen,        \* the position that each decided on
  stale,       \* the interrupt counter has moved since each loaded it
  cancel,      \* each one's flag
  peer,        \* where the committer stands
  canc         \* whose cancelling is on the way, and how far

vars == <<pos, taken, waitFor, gate, pc, seen, stale, cancel, peer, canc>>

G == 1..Goroutines
Out(fault) == fault \in Left

Init ==
  /\ pos = 0 /\ taken = 0 /\ waitFor = 0 /\ gate = 0
  /\ pc = [g \in G |-> "idle"]
  /\ seen = [g \in G |-> 0]
  /\ stale = [g \in G |-> FALSE]
  /\ cancel = [g \in G |-> FALSE]
  /\ peer = "idle"
  /\ canc = [g \in G |-> "none"]

Goto(g, l) == pc' = [pc EXCEPT ![g] = l]
Handed == Goroutines + 1
Queued == {h \in G : pc[h] = "idle"}


GateTaken(g) ==
  /\ pc[g] = "idle"
  /\ gate \in {0, Handed}
  /\ gate' = IF Out("NoGate") THEN 0 ELSE g
  /\ Goto(g, "count")
  /\ UNCHANGED <<pos, taken, waitFor, seen, stale, cancel, peer, canc>>

\* Cancelled while it queues.
GateLeft(g) ==
  /\ pc[g] = "idle" /\ cancel[g]
  /\ ~Out("GateDeaf")
  /\ Goto(g, "left")
  /\ UNCHANGED <<pos, taken, waitFor, gate, seen, stale, cancel, peer, canc>>

GateFreed(g) ==
  /\ pc[g] = "leave"
  /\ Goto(g, "done")
  /\ gate' = IF Out("NoGate") THEN gate ELSE 0
  /\ UNCHANGED <<pos, taken, waitFor, seen, stale, cancel, peer, canc>>

\* For the sake of one that has waited for long.
GateHanded(g) ==
  /\ pc[g] = "leave"
  /\ ~Out("NoGate") /\ Goroutines > 1
  /\ Goto(g, "offered")
  /\ gate' = Handed
  /\ UNCHANGED <<pos, taken, waitFor, seen, stale, cancel, peer, canc>>

\* Behind its leaving the queue it looks for a gate that was meant for it, and frees that.
HandedPassed(g) ==
  /\ pc[g] = "left"
  /\ Goto(g, "done")
  /\ gate' = IF gate = Handed /\ ~Out("HandedLost") THEN 0 ELSE gate
  /\ UNCHANGED <<pos, taken, waitFor, seen, stale, cancel, peer, canc>>

\* Whom it was meant for has left: it takes it back.
HandedBack(g) ==
  /\ pc[g] = "offered"
  /\ Goto(g, "done")
  /\ gate' = IF gate = Handed /\ Queued = {} /\ ~Out("HandedBlind") THEN 0 ELSE gate
  /\ UNCHANGED <<pos, taken, waitFor, seen, stale, cancel, peer, canc>>

CountLoaded(g) ==
  /\ pc[g] = "count"
  /\ Goto(g, "flags")
  /\ stale' = [stale EXCEPT ![g] = FALSE]
  /\ UNCHANGED <<pos, taken, waitFor, gate, seen, cancel, peer, canc>>

\* A boolean word is lowered by whoever leaves; an event index need not be.
Lowered == IF Out("Boolean") THEN waitFor' = 0 ELSE UNCHANGED waitFor

FlagsLoaded(g) ==
  /\ pc[g] = "flags"
  /\ IF cancel[g]
       THEN Goto(g, "leave") /\ waitFor' = 0
       ELSE Goto(g, "position") /\ UNCHANGED waitFor
  /\ UNCHANGED <<pos, taken, gate, seen, stale, cancel, peer, canc>>

PositionLoaded(g) ==
  /\ pc[g] = "position"
  /\ IF pos - taken >= g
       THEN /\ Goto(g, "leave") /\ Lowered
            /\ taken' = taken + g
            /\ UNCHANGED seen
       ELSE /\ Goto(g, "arm")
            /\ seen' = [seen EXCEPT ![g] = pos]
            /\ UNCHANGED <<taken, waitFor>>
  /\ UNCHANGED <<pos, gate, stale, cancel, peer, canc>>

Armed(g) ==
  /\ pc[g] = "arm"
  /\ waitFor' = IF Out("Boolean") THEN 1 ELSE taken + g
  /\ Goto(g, "sleep")
  /\ UNCHANGED <<pos, taken, gate, seen, stale, cancel, peer, canc>>

Sleeping(g) ==
  /\ pc[g] = "sleep"
  /\ Goto(g, IF pos = seen[g] /\ ~stale[g] THEN "asleep" ELSE "count")
  /\ seen' = [seen EXCEPT ![g] = 0]
  /\ UNCHANGED <<pos, taken, waitFor, gate, stale, cancel, peer, canc>>

WakeAll == pc' = [g \in G |-> IF pc[g] = "asleep" THEN "count" ELSE pc[g]]

Published ==
  /\ peer = "idle" /\ pos < Units
  /\ pos' = pos + 1
  /\ peer' = "published"
  /\ UNCHANGED <<taken, waitFor, gate, pc, seen, stale, cancel, canc>>

WaitLoaded ==
  /\ peer = "published"
  /\ peer' = IF (IF Out("Boolean") THEN waitFor = 1 ELSE waitFor = pos) THEN "notify" ELSE "idle"
  /\ UNCHANGED <<pos, taken, waitFor, gate, pc, seen, stale, cancel, canc>>

Notified ==
  /\ peer = "notify"
  /\ peer' = "idle"
  /\ WakeAll
  /\ UNCHANGED <<pos, taken, waitFor, gate, seen, stale, cancel, canc>>

Cancelled(g) ==
  /\ canc[g] = "none" /\ pc[g] # "done"
  /\ Cardinality({h \in G : cancel[h]}) < Cancels
  /\ cancel' = [cancel EXCEPT ![g] = TRUE]
  /\ canc' = [canc EXCEPT ![g] = "set"]
  /\ UNCHANGED <<pos, taken, waitFor, gate, pc, seen, stale, peer>>

CancelRaised(g) ==
  /\ canc[g] = "set"
  /\ canc' = [canc EXCEPT ![g] = "raised"]
  /\ stale' = [h \in G |-> TRUE]
  /\ UNCHANGED <<pos, taken, waitFor, gate, pc, seen, cancel, peer>>

CancelNotified(g) ==
  /\ canc[g] = "raised"
  /\ canc' = [canc EXCEPT ![g] = "over"]
  /\ WakeAll
  /\ UNCHANGED <<pos, taken, waitFor, gate, seen, stale, cancel, peer>>

Next ==
  \/ \E g \in G : GateTaken(g)
  \/ \E g \in G : GateLeft(g)
  \/ \E g \in G : GateFreed(g)
  \/ \E g \in G : GateHanded(g)
  \/ \E g \in G : HandedPassed(g)
  \/ \E g \in G : HandedBack(g)
  \/ \E g \in G : CountLoaded(g)
  \/ \E g \in G : FlagsLoaded(g)
  \/ \E g \in G : PositionLoaded(g)
  \/ \E g \in G : Armed(g)
  \/ \E g \in G : Sleeping(g)
  \/ Published
  \/ WaitLoaded
  \/ Notified
  \/ \E g \in G : Cancelled(g)
  \/ \E g \in G : CancelRaised(g)
  \/ \E g \in G : CancelNotified(g)

Spec == Init /\ [][Next]_vars

FairSpec ==
  /\ Spec
  /\ WF_vars(Published \/ WaitLoaded \/ Notified)
  /\ \A g \in G : /\ SF_vars(GateTaken(g))
                  /\ WF_vars(GateLeft(g) \/ GateFreed(g) \/ GateHanded(g) \/ HandedPassed(g) \/ HandedBack(g)
                             \/ CountLoaded(g) \/ FlagsLoaded(g)
                             \/ PositionLoaded(g) \/ Armed(g) \/ Sleeping(g))
                  /\ WF_vars(CancelRaised(g) \/ CancelNotified(g))

\* M7: nobody sleeps on what has happened while nobody is on the way to say so.
M7 ==
  \A g \in G :
    pc[g] = "asleep" /\ peer = "idle" /\ (\A h \in G : canc[h] \notin {"set", "raised"})
      => pos - taken < g /\ ~cancel[g]

\* One at a time.
Outside == {"idle", "left", "offered", "done"}
OneWaits == \A g, h \in G : g # h => ~(pc[g] \notin Outside /\ pc[h] \notin Outside)

\* A gate that is handed over is of somebody, who claims it, passes it on or takes it back.
NeverLost == gate = Handed => \E g \in G : pc[g] \in {"idle", "left", "offered"}

\* A cancelled call returns, whoever holds the gate.
M7_Live == \A g \in G : cancel[g] ~> pc[g] = "done"
=============================================================================
