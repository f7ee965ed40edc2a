---------------------------- MODULE MCLifecycle ----------------------------
(***************************************************************************)
(* Bounds for Lifecycle, and the states that must be reachable for its     *)
(* checks to mean anything: each Reach_ operator says that one never is,   *)
(* and its configuration must fail.                                        *)
(***************************************************************************)
EXTENDS Lifecycle, TLC

\* For safety only: processes of one role are alike.
Alike == Permutations(Servers) \union Permutations(Clients)
=============================================================================
