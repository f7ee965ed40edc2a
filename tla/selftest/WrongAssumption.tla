--------------------------- MODULE WrongAssumption ---------------------------
(* The checker must refuse it. *)
EXTENDS Sound
ASSUME 1 + 1 = 3
=============================================================================
