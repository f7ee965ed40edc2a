------------------------------ MODULE Deadlock -------------------------------
(* It stops at three. *)
EXTENDS Naturals
VARIABLE n
Init == n = 0
Step == n < 3 /\ n' = n + 1
Spec == Init /\ [][Step]_n
=============================================================================
