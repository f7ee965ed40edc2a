---------------------------- MODULE MCLifecycle ----------------------------
(***************************************************************************)
(* Bounds for Lifecycle, and the states that must be reachable for its     *)
(* checks to mean anything: each Reach_ operator says that one never is,   *)
(* and its configuration must fail.                                        *)
(*                                                                         *)
(* The mutants, by the rule of the life cycle that each leaves out:        *)
(*   locks   ListenSkipsToken UnlockBeforeBind NoToken UnlinkWithoutLock   *)
(*           GenerationReused KeepsCopy SharedToken NamedLate TestsAgain     *)
(*   C1      UnmapLast NoGoodbye                                           *)
(*   C2      Byte0First UnlinkLate AwaitsEndOnly NoCloseDeadline           *)
(*           FormerNotWoken                                                *)
(*   C3      GrantOnEOF AdmitBeforeSettle RefuseAlways OneAttempt          *)
(*           NumberAtReady StaysCurrent                                    *)
(*   C4      TokenByPath                                                   *)
(*   C5      NoRecheck RecheckFirst NoProbe AbandonUnlinks                 *)
(*   C6      NoRecord                 C7   HandshakesBlock                 *)
(*   C8      TakesTruncated           C9   HoldsWhileRedialing             *)
(*   C10     ForkKeepsToken ClosesOnly                                     *)
(*   verdict DiedOnSilence DeathByByte0 HangWhenReadyOnly TokenAlone       *)
(* The defence that can hide one is the probe of P: "masked" is without    *)
(* it.  The token hides NoRecheck and RecheckFirst, so that P.token is     *)
(* deleted too (lifecycle_deletion_masked shows that it does).             *)
(***************************************************************************)
EXTENDS Lifecycle, TLC

\* For safety only: processes of one role are alike.
Alike == Permutations(Servers) \union Permutations(Clients)

\* Listen finds the token with a client that is frozen.
Reach_FrozenOrphan ==
  ~\E s \in Servers, c \in Clients : srv[s].pc = "locked0" /\ c \in frozen /\ (IF tokenPath = 0 THEN FALSE ELSE c \in token[tokenPath])
\* A newcomer waits in the backlog of admission while the former client dies.
Reach_NewcomerWaits ==
  ~\E k \in Conns : conn[k].st = "end" /\ conn[k].c # None /\ srv[conn[k].s].cur # 0 /\ ~TokenFree(srv[conn[k].s].tok)
\* Where a newcomer finds the token free, and the former client is not settled.
Newcomer(k) == IF conn[k].st \in {"noEnd", "end"} THEN srv[conn[k].s].cur # 0 /\ TokenFree(srv[conn[k].s].tok) ELSE FALSE
\* The former client has let the token go and its socket is still open.
Reach_FormerSocketOpen == ~\E k \in Conns : IF Newcomer(k) THEN conn[srv[conn[k].s].cur].c # None ELSE FALSE
\* Admission settles a client whose READY nobody has read.
Reach_ReadyUnread ==
  ~\E k \in Conns : IF Newcomer(k) THEN ~srv[conn[k].s].ready /\ mem[srv[conn[k].s].mem].cin = conn[srv[conn[k].s].cur].num ELSE FALSE
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
Reach_CloseGivesUp == ~\E s \in Servers : srv[s].pc = "awaited" /\ ~TokenFree(srv[s].tok)
\* A client has let its token go, and the server that let it in has a copy still.
Reach_LetsGoOfCopy == ~\E k \in Conns : conn[k].st = "granted" /\ ~conn[k].copy
\* A server dies while it holds the token for a client that is not yet let in.
Reach_DiesInAdmission == ~\E k \in Conns : conn[k].copy /\ (IF conn[k].s = None THEN FALSE ELSE srv[conn[k].s].pc = "dying")
\* The client's end is not proven, though its socket is at its end.
Reach_EndNotProven ==
  ~\E k \in Conns : conn[k].st = "endSeen" /\ (IF conn[k].s = None THEN FALSE ELSE srv[conn[k].s].cur = k /\ ~TokenFree(conn[k].tok))
\* Two lock files are locked, because one was deleted.
Reach_TwoLockFiles == ~(\A i \in Ino : byte0[i] # None)
\* The stated limits: with P.token deleted, a new server starts beside an old client.
Reach_Limit == L3_BothRestart
\* With P.lock deleted it does where a server lets a client in and dies, between
\* another one's look at the token and its look at P.
Reach_LimitOfLock == L3_BothRestart
\* With both deleted, a Listen that will give up has unlinked the socket of another.
Reach_PathTaken == L1_Path
\* A process is dead, and a copy of its token is not.
Reach_CopyOutlives == ~\E k \in Conns : conn[k].st = "endSeen" /\ ClientExited(k) /\ HasCopy(conn[k].tok)
\* A former client has locked its token file again, beside its successor.
Reach_FormerLocks == ~\E i \in Toks, c \in Clients : Former \in token[i] /\ cli[c].pc = "attached"
=============================================================================
