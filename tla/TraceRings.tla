----------------------------- MODULE TraceRings -----------------------------
(***************************************************************************)
(* The traces of both directions in one run of the checker: in the one the *)
(* client produces, in the other it consumes.                              *)
(***************************************************************************)
EXTENDS Naturals, Sequences, TLC, TraceData

CONSTANTS Cap, MaxMsg, MaxKills, MaxCancels, Batch, Hold

VARIABLES mem, slot, buf, up, frozen, pc, cursor, seen, stop, held, mark, cancel, ends, stale, watch, canc,
          gen, log, handed, fin, acct, kills, cancels, freezes, tid, done, extra

Each(n) == [r \in {"P", "C"} |-> n]

Produces == INSTANCE TraceRing WITH Client <- "P", MaxGen <- 1, Kills <- Each(MaxKills), Cancels <- Each(MaxCancels),
  Freezes <- Each(0), Aborts <- TRUE, Tso <- FALSE, Eager <- FALSE, Idle <- TRUE, Left <- {}
Consumes == INSTANCE TraceRing WITH Client <- "C", MaxGen <- 1, Kills <- Each(MaxKills), Cancels <- Each(MaxCancels),
  Freezes <- Each(0), Aborts <- TRUE, Tso <- FALSE, Eager <- FALSE, Idle <- TRUE, Left <- {}

TraceInit == Produces!TraceInit \/ Consumes!TraceInit
TraceNext == Produces!TraceNext \/ Consumes!TraceNext
Accepts == Produces!Accepts
=============================================================================
