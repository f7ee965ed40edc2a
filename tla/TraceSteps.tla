----------------------------- MODULE TraceSteps -----------------------------
(***************************************************************************)
(* What a recorded trace allows. Traces, in the generated module           *)
(* TraceData, has for each trace the events of each thread of control, in  *)
(* the order in which the thread recorded them: the step's name n, the     *)
(* place v that it is about, and the interval from b to e in which the     *)
(* action lies, by the one order of all records of the trace. Of two       *)
(* actions of two threads nothing is known but that: one comes before the  *)
(* other for certain only if its interval ends before the other's begins.  *)
(*                                                                         *)
(* A thread that records no more, because its process is dead or the trace *)
(* is over, may have done one thing of which there is no record.           *)
(***************************************************************************)
EXTENDS Naturals, Sequences, TLC, TraceData

VARIABLES
  tid,    \* which trace
  done,   \* [thread -> how many of its events are behind it]
  extra   \* threads that have done something unrecorded

T == Traces[tid]

More(th) == IF th \in DOMAIN done THEN done[th] < Len(T.ev[th]) ELSE FALSE

\* What a thread does is hidden for the sake of its next event, if it has one.
NextIs(th, name) == More(th) => T.ev[th][done[th] + 1].n = name

\* Whatever had ended before then has happened.
Viable(b) == \A o \in DOMAIN done : More(o) => T.ev[o][done[o] + 1].e > b

\* The thread's next event is this one.
Recorded(th, name, place) ==
  IF More(th)
    THEN LET e == T.ev[th][done[th] + 1]
         IN /\ e.n = name /\ e.v = place
            /\ Viable(e.b)
            /\ done' = [done EXCEPT ![th] = @ + 1]
            /\ UNCHANGED <<tid, extra>>
    ELSE /\ th \notin extra
         /\ extra' = extra \union {th}
         /\ UNCHANGED <<tid, done>>

\* For whoever does nothing that is not recorded.
AlwaysRecorded(th, name) == More(th) /\ Recorded(th, name, 0)

Unrecorded == UNCHANGED <<tid, done, extra>>

Begins(t) == tid = t /\ done = [th \in DOMAIN Traces[t].ev |-> 0] /\ extra = {}

Whole == \A th \in DOMAIN done : ~More(th)

\* An invariant that is never broken, and tells of each trace that is accepted.
Accepts == Whole => PrintT(<<"ACCEPT", tid>>)
=============================================================================
