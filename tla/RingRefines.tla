---------------------------- MODULE RingRefines ----------------------------
(***************************************************************************)
(* The ring does what the channel promises: each of its steps is one of    *)
(* Channel's, or none. A store counts when the processor retires it, which *)
(* is when nothing but its way to memory is left and no death undoes it.   *)
(***************************************************************************)
EXTENDS Ring

Whole(i) == LET s == slot[Index(i)] IN IF s[1] = s[2] THEN s[1] ELSE 0

View == [j \in 1..held |-> Whole(cursor["C"] - held + j)]

Kept ==
  [j \in 1..(IF WritePos > ReadPos THEN WritePos - ReadPos ELSE 0) |-> Whole(ReadPos + j)]

C == INSTANCE Channel WITH
  Bound    <- Cap,
  MaxDeaths <- Kills[Client],
  deaths   <- Kills[Client] - kills[Client],
  alive    <- up,
  kept     <- Kept,
  rel      <- ReadPos,
  dlv      <- DeliveredPos,
  cur      <- cursor["C"],
  view     <- View,
  seen     <- handed,
  telling  <- pc["C"] \in {"told", "disarm told"}

Refines == C!Spec

M1 == C!M1
M2 == C!M2
M3 == C!M3
M4 == C!M4
M5 == C!M5
M6 == C!M6
M8 == C!M8
L4 == C!L4
=============================================================================
