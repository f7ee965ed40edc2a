------------------------------ MODULE TraceRing ------------------------------
(***************************************************************************)
(* Is a recorded trace of one direction one of Ring's? Each action that    *)
(* has a step takes its thread's next event; the others are hidden. The    *)
(* names and threads are those of RingSteps in model/ring_record.go.       *)
(* TraceRings has both directions.                                         *)
(***************************************************************************)
EXTENDS Ring, TraceSteps

Life(r) == Kills[r] - kills[r]
Of(t) == <<t, Life(RoleOf(t))>>
Watch(r) == <<r \o ".watch", Life(r)>>

Does(t, name, place) == Recorded(Of(t), name, place)

\* Threads that have nothing left to record need not look for anything to do.
Goes(t) == Unrecorded /\ More(Of(t))

TraceInit ==
  /\ Init
  /\ \E t \in DOMAIN Traces : Traces[t].client = Client /\ Begins(t)

Waiting(r) ==
  \/ CountLoaded(r) /\ Goes(r)
  \/ Woken(r) /\ Does(r, "Woken", 0)
  \/ FlagsLoaded(r) /\ Goes(r)
  \/ Sleeping(r) /\ Does(r, "Sleeping", 0)
  \/ Slept(r) /\ Goes(r)
  \/ WokenForNothing(r) /\ Goes(r)
  \/ Disarmed(r) /\ Does(r, "Disarmed", 0)
  \/ Renewed(r) /\ Goes(r)
  \/ Cancelled(r) /\ Goes(r) /\ Cancels[r] - cancels[r] < T.cancels[r]
  \/ CancelRaised(r) /\ Goes(r)
  \/ CancelNotified(r) /\ Goes(r)

Producing ==
  \/ SendOpen /\ Goes("P")
  \/ SendFailed /\ Goes("P")
  \/ SpaceNeeded /\ Goes("P")
  \/ SendStopped /\ Goes("P")
  \/ Claimed /\ Does("P", "Claimed", 0)
  \/ SpaceArmed /\ Does("P", "SpaceArmed", 0)
  \/ Filled /\ Does("P", "Filled", 0)
  \/ Sealed /\ Does("P", "Sealed", cursor'["P"])
  \/ BatchContinued /\ IF pc'["P"] = "claimed" THEN Does("P", "Claimed", 0) ELSE Goes("P")
  \/ Aborted /\ Does("P", "Aborted", 0)
  \/ Published /\ Does("P", "Published", cursor'["P"])
  \/ DataWaitLoaded /\ IF pc'["P"] = "idle" THEN Does("P", "Notified", 0) ELSE Unrecorded
  \/ Notified /\ Does("P", "Notified", 0)

Consuming ==
  \/ PositionLoaded /\ Goes("C")
  \/ DataFound /\ Goes("C")
  \/ EndReported /\ Goes("C")
  \/ DataNeeded /\ Goes("C")
  \/ ReceiveStopped /\ Goes("C")
  \/ HoldsViews /\ Goes("C")
  \/ ViewsHeld /\ Goes("C")
  \/ ViewsFine /\ Goes("C")
  \/ EndTaken /\ Goes("C")
  \/ DataArmed /\ Does("C", "DataArmed", 0)
  \/ Peeked /\ Does("C", "Peeked", 0)
  \/ Delivered /\ Does("C", "Delivered", seen["C"])
  \/ HandedOut /\ Unrecorded
  \/ Released /\ Does("R", "Released", mem'["readPos"])
  \/ SpaceWaitLoaded /\ IF pc'["R"] = "idle" THEN Does("R", "ReleaseNotified", 0) ELSE Unrecorded
  \/ ReleaseNotified /\ Does("R", "ReleaseNotified", 0)

Ending ==
  \/ \E r \in Role :
       \/ EndProven(r) /\ Recorded(Watch(r), "EndProven", 0)
       \/ AccountTaken(r) /\ Recorded(Watch(r), "AccountTaken", 0)
       \/ Interrupted(r) /\ Unrecorded
       \/ InterruptNotified(r) /\ Unrecorded
       \/ Killed(r) /\ AlwaysRecorded(<<"Killed " \o r, 0>>, "Killed " \o r)
  \/ SegmentsMapped /\ Does(Client, "SegmentsMapped", 0)
  \/ DataWaitCleared /\ Does("C", "DataWaitCleared", 0)
  \/ SpaceWaitCleared /\ Does("P", "SpaceWaitCleared", 0)

TraceNext == T.client = Client /\ ~Whole /\ (Waiting("P") \/ Waiting("C") \/ Producing \/ Consuming \/ Ending)
=============================================================================
