------------------------------- MODULE Sound --------------------------------
(* A counter that wraps round: nothing is wrong with it. *)
EXTENDS Naturals
VARIABLE n
Init == n = 0
Step == n' = (n + 1) % 4
Spec == Init /\ [][Step]_n /\ WF_n(Step)
Small == n < 4
Grows == [][n' = n + 1 \/ n' = 0]_n
Returns == []<>(n = 0)
=============================================================================
