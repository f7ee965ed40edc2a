------------------------------- MODULE MCRing -------------------------------
(***************************************************************************)
(* Bounds for Ring, and the states that must be reachable for the checks   *)
(* to mean anything: each Reach_ operator says that one never is, and its  *)
(* configuration must fail.                                                *)
(***************************************************************************)
EXTENDS RingRefines

CONSTANTS KillP, KillC, CancelP, CancelC, FreezeP, FreezeC

PerRole(p, c) == [r \in Role |-> IF r = "P" THEN p ELSE c]
MCKills == PerRole(KillP, KillC)
MCCancels == PerRole(CancelP, CancelC)
MCFreezes == PerRole(FreezeP, FreezeC)

\* A message comes again to the next client.
Reach_Redelivery == ~(up["C"] /\ held > 0 /\ cursor["C"] - held + 1 <= mark)
\* The ring is full and its consumer is dead.
Reach_FullDead == ~(~up["C"] /\ WritePos - mem["readPos"] = Cap /\ pc["P"] = "asleep")
\* A consumer dies between its release and its wake, while the producer sleeps.
Reach_DeadBeforeNotify ==
  ~(~up["C"] /\ pc["P"] = "asleep" /\ cursor["P"] - mem["readPos"] < Cap)
\* The consumer sleeps before the producer's store has reached memory.
Reach_SleepBeforeDrain == ~(buf["P"] # <<>> /\ pc["C"] = "asleep" /\ pc["P"] = "published")
\* A message stands filled in the ring, and its producer dies.
Reach_UncommittedLost ==
  ~(~up["P"] /\ \E i \in DOMAIN slot : slot[i][1] # 0 /\ slot[i][1] % 10 > Len(log))
\* The end of one client waits to be reported while the next one's messages are in the ring.
Reach_EndBehindSuccessor == ~(up["C"] /\ Len(ends["C"]) > 0 /\ mem["writePos"] > Head(ends["C"]))
\* Two ends wait to be reported.
Reach_TwoEnds == Len(ends["C"]) < 2
\* A second consumer dies with messages that the first one had too.
Reach_SeenTwice == ~(up["C"] /\ kills["C"] = 0 /\ KillC = 2 /\ held > 0 /\ cursor["C"] <= mark)
\* The last message of the last generation is released.
Reach_LastGeneration == ~(gen = MaxGen /\ MaxGen > 1 /\ ReadPos = MaxMsg)
\* A cancelled waiter comes back.
Reach_Disarmed == ~(pc["C"] = "disarm idle" /\ mem["dataWaitFor"] > 0)
=============================================================================
