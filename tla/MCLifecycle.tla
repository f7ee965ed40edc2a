---------------------------- MODULE MCLifecycle ----------------------------
(***************************************************************************)
(* Bounds for Lifecycle, and the states that must be reachable for its     *)
(* checks to mean anything: each Reach_ operator says that one never is,   *)
(* and its configuration must fail.                                        *)
(*                                                                         *)
(* The mutants, by the rule of the life cycle that each leaves out:        *)
(*   locks   ListenSkipsToken UnlockBeforeBind PosixRelease NoToken        *)
(*           UnlinkWithoutLock GenerationReused KeepsCopy                  *)
(*   C1      UnmapLast NoGoodbye                                           *)
(*   C2      Byte0First UnlinkLate AwaitsEndOnly NoCloseDeadline           *)
(*           FormerNotWoken                                                *)
(*   C3      GrantOnEOF AdmitBeforeSettle RefuseAlways OneAttempt          *)
(*           NumberAtReady StaysCurrent                                    *)
(*   C4      TokenByPath              C5   NoRecheck ProbePathFirst        *)
(*   C6      NoRecord                 C7   HandshakesBlock                 *)
(*   C8      TakesTruncated           C9   HoldsWhileRedialing             *)
(*   C10     ForkKeepsToken ClosesOnly                                     *)
(*   verdict DiedOnSilence DeathByByte0 HangWhenReadyOnly                  *)
(* The defence that can hide one is the probe of P: "masked" is without it *)
(* (lifecycle_masked_PosixRelease shows one that it does hide).            *)
(***************************************************************************)
EXTENDS Lifecycle, TLC

\* For safety only: processes of one role are alike.
Alike == Permutations(Servers) \union Permutations(Clients)

\* Listen finds the token with a client that is frozen.
Reach_FrozenOrphan ==
  ~\E s \in Servers, c \in Clients : srv[s].pc = "locked0" /\ c \in frozen /\ c \in token[srv[s].ino]
\* A newcomer waits in the backlog of admission while the former client dies.
Reach_NewcomerWaits ==
  ~\E k \in Conns : conn[k].st = "end" /\ conn[k].c # None /\ srv[conn[k].s].cur # 0 /\ ~TokenFree(conn[k].ino)
\* The former client has let the token go and its socket is still open.
Reach_FormerSocketOpen ==
  ~\E k \in Conns : conn[k].st = "settle" /\ (IF srv[conn[k].s].cur = 0 THEN FALSE ELSE conn[srv[conn[k].s].cur].c # None)
\* Admission settles a client whose READY nobody has read.
Reach_ReadyUnread ==
  ~\E k \in Conns : conn[k].st = "settle" /\ (IF srv[conn[k].s].cur = 0 THEN FALSE
     ELSE ~srv[conn[k].s].ready /\ mem[srv[conn[k].s].mem].cin = conn[srv[conn[k].s].cur].num)
\* A client outlives its server, and the next Listen has byte 0.
Reach_OrphanOutlives ==
  ~\E c \in Clients, s \in Servers : cli[c].pc = "attached" /\ conn[cli[c].k].st = "shut" /\ srv[s].pc = "locked0"
\* The token is on its way to a dead process.
Reach_GrantToDead == ~\E k \in Conns : conn[k].toC = "grant" /\ conn[k].fate = "died"
\* The token is on its way from a dead process.
Reach_GrantFromDead == ~\E k \in Conns : conn[k].toC = "grant" /\ conn[k].st = "shut"
\* A client is called hung, and comes back.
Reach_Recovered == ~\E s \in Servers : srv[s].hung /\ ClientOf(s) \in Clients \ frozen
Reach_ServerRecovered == ~\E c \in Clients : cli[c].hung /\ ServerOf(c) \in Servers \ frozen
\* Close gives up on a client that is frozen, or slow.
Reach_CloseGivesUp == ~\E s \in Servers : srv[s].pc = "awaited" /\ ~TokenFree(srv[s].ino)
\* A client has let its token go, and the server that let it in has a copy still.
Reach_LetsGoOfCopy == ~\E k \in Conns : conn[k].st = "granted" /\ ~conn[k].copy
\* A server dies while it holds byte 1 for a client that is not yet let in.
Reach_DiesInAdmission == ~\E k \in Conns : conn[k].copy /\ (IF conn[k].s = None THEN FALSE ELSE srv[conn[k].s].pc = "dying")
\* The client's end is not proven, though its socket is at its end.
Reach_EndNotProven ==
  ~\E k \in Conns : conn[k].st = "endSeen" /\ (IF conn[k].s = None THEN FALSE ELSE srv[conn[k].s].cur = k /\ ~TokenFree(conn[k].ino))
\* Two lock files are locked, because one was deleted.
Reach_TwoLockFiles == ~(\A i \in Ino : byte0[i] # None)
\* The stated limit: with P.lock deleted, a new server starts beside an old client.
Reach_Limit == L3_BothRestart
=============================================================================
