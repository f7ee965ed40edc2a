------------------------------ MODULE Channel ------------------------------
(***************************************************************************)
(* What the user of one direction is promised, and nothing about how.      *)
(*                                                                         *)
(* A producer commits messages; a consumer is handed them, in order, and   *)
(* releases them. One of the two is the server, whose start begins a       *)
(* generation; the other is the client, of which there may be several, one *)
(* after the other. Either may die between any two steps.                  *)
(*                                                                         *)
(* A message is known by who committed it where: generation, number of the *)
(* client's restarts, place in the log. So no two messages are equal, and  *)
(* what is handed out can be compared with what was committed.             *)
(***************************************************************************)
EXTENDS Naturals, Sequences

CONSTANTS
  Bound,     \* messages that fit (M8)
  Batch,     \* messages that one commit or one delivery may contain
  Client,    \* which of the two is the client: "P" or "C"
  MaxMsg,    \* messages per generation
  MaxGen,    \* generations
  MaxDeaths  \* deaths of clients, over all generations

VARIABLES
  gen,       \* the generation
  deaths,    \* how many clients have died
  alive,     \* [Role -> BOOLEAN]
  log,       \* what was committed in this generation, in commit order
  kept,      \* what is committed and not released: it survives any death
  rel,       \* how many were released, by all consumers together
  dlv,       \* how many may have been seen by a consumer
  cur,       \* how many were handed out up to now; 0 while there is no consumer
  view,      \* what the consumer has in hand
  mark,      \* the consumer's messages up to here carry Redelivered
  seen,      \* how many were handed to consumers that died
  fin,       \* the ends of producers that the consumer was not yet told of: the place of each in the log
  telling,   \* the consumer is being told of the first of them
  acct       \* what the producer knows of a dead consumer: <<released, perhaps seen>>, or <<>>

cvars == <<gen, deaths, alive, log, kept, rel, dlv, cur, view, mark, seen, fin, telling, acct>>

Role == {"P", "C"}
Server == IF Client = "P" THEN "C" ELSE "P"

Message(g, d, i) == 100 * g + (IF Client = "P" THEN 10 * d ELSE 0) + i
GenerationOf(m) == m \div 100

Larger(a, b) == IF a > b THEN a ELSE b
From(s, i) == SubSeq(s, i + 1, Len(s))

\* The consumer gets no further than the first end that it was not told of.
Limit == IF fin = <<>> THEN Len(log) ELSE Head(fin)

Fresh ==
  /\ alive = [r \in Role |-> TRUE]
  /\ log = <<>> /\ kept = <<>>
  /\ rel = 0 /\ dlv = 0 /\ cur = 0 /\ view = <<>> /\ mark = 0 /\ seen = 0
  /\ fin = <<>> /\ telling = FALSE /\ acct = <<>>

Init == gen = 1 /\ deaths = 0 /\ Fresh

Commit(k) ==
  /\ alive["P"]
  /\ Len(kept) + k <= Bound /\ Len(log) + k <= MaxMsg
  /\ log' = log \o [j \in 1..k |-> Message(gen, deaths, Len(log) + j)]
  /\ kept' = From(log', rel)
  /\ UNCHANGED <<gen, deaths, alive, rel, dlv, cur, view, mark, seen, fin, telling, acct>>

\* Noted before the hand-out, so that no death can leave a message seen and unmarked.
Deliver(k) ==
  /\ alive["C"] /\ ~telling
  /\ cur + k <= Limit
  /\ dlv' = Larger(dlv, cur + k)
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, cur, view, mark, seen, fin, telling, acct>>

HandOut(k) ==
  /\ alive["C"] /\ ~telling
  /\ cur + k <= Limit /\ cur + k <= dlv
  /\ cur' = cur + k
  /\ view' = SubSeq(log, rel + 1, cur + k)
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, dlv, mark, seen, fin, telling, acct>>

Release(n) ==
  /\ alive["C"]
  /\ rel < n /\ n <= cur
  /\ rel' = n
  /\ kept' = From(log, n)
  /\ view' = SubSeq(log, n + 1, cur)
  /\ UNCHANGED <<gen, deaths, alive, log, dlv, cur, mark, seen, fin, telling, acct>>

Dies(r) ==
  /\ alive[r]
  /\ alive' = [alive EXCEPT ![r] = FALSE]
  /\ r = Client => deaths < MaxDeaths
  /\ deaths' = IF r = Client THEN deaths + 1 ELSE deaths

ProducerDies ==
  /\ Dies("P")
  /\ fin' = IF alive["C"] THEN Append(fin, Len(log)) ELSE fin
  /\ UNCHANGED <<gen, log, kept, rel, dlv, cur, view, mark, seen, telling, acct>>

ConsumerDies ==
  /\ Dies("C")
  /\ seen' = Larger(seen, cur)
  /\ cur' = 0 /\ view' = <<>> /\ mark' = 0 /\ fin' = <<>> /\ telling' = FALSE
  /\ UNCHANGED <<gen, log, kept, rel, dlv, acct>>

\* The consumer has everything that the dead producer committed, and is told of its end.
EndTold ==
  /\ alive["C"] /\ ~telling
  /\ fin # <<>> /\ cur = Head(fin)
  /\ telling' = TRUE
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, dlv, cur, view, mark, seen, fin, acct>>

EndTaken ==
  /\ alive["C"] /\ telling
  /\ telling' = FALSE /\ fin' = Tail(fin)
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, dlv, cur, view, mark, seen, acct>>

\* Two ends with nothing committed in between may be told as one.
EndsMerged ==
  /\ alive["C"]
  /\ \E j \in 1..Len(fin) - 1 :
       /\ fin[j] = fin[j + 1]
       /\ fin' = SubSeq(fin, 1, j) \o SubSeq(fin, j + 2, Len(fin))
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, dlv, cur, view, mark, seen, telling, acct>>

AccountTaken ==
  /\ alive["P"] /\ ~alive["C"] /\ acct = <<>>
  /\ acct' = <<rel, dlv>>
  /\ UNCHANGED <<gen, deaths, alive, log, kept, rel, dlv, cur, view, mark, seen, fin, telling>>

\* The next client, of the same server: it goes on where the former stood.
ProducerStarts ==
  /\ Client = "P" /\ ~alive["P"] /\ alive["C"]
  /\ alive' = [alive EXCEPT !["P"] = TRUE]
  /\ UNCHANGED <<gen, deaths, log, kept, rel, dlv, cur, view, mark, seen, fin, telling, acct>>

ConsumerStarts ==
  /\ Client = "C" /\ ~alive["C"] /\ alive["P"] /\ acct # <<>>
  /\ alive' = [alive EXCEPT !["C"] = TRUE]
  /\ cur' = rel /\ mark' = dlv /\ acct' = <<>>
  /\ UNCHANGED <<gen, deaths, log, kept, rel, dlv, view, seen, fin, telling>>

NewGeneration ==
  /\ \A r \in Role : ~alive[r]
  /\ gen < MaxGen
  /\ gen' = gen + 1
  /\ UNCHANGED deaths
  /\ alive' = [r \in Role |-> TRUE]
  /\ log' = <<>> /\ kept' = <<>>
  /\ rel' = 0 /\ dlv' = 0 /\ cur' = 0 /\ view' = <<>> /\ mark' = 0 /\ seen' = 0
  /\ fin' = <<>> /\ telling' = FALSE /\ acct' = <<>>

Next ==
  \/ \E k \in 1..Batch : Commit(k)
  \/ \E k \in 1..Batch : Deliver(k)
  \/ \E k \in 1..Batch : HandOut(k)
  \/ \E n \in 1..MaxMsg : Release(n)
  \/ ProducerDies
  \/ ConsumerDies
  \/ EndTold
  \/ EndTaken
  \/ EndsMerged
  \/ AccountTaken
  \/ ProducerStarts
  \/ ConsumerStarts
  \/ NewGeneration

Spec == Init /\ [][Next]_cvars

----------------------------------------------------------------------------
(***************************************************************************)
(* The promises, each by its name. They are invariants of Channel; the     *)
(* ring is checked against them too, so that a fault is called by the      *)
(* promise that it breaks.                                                 *)
(***************************************************************************)

\* M1 NoLoss: what is committed and not released is kept, whole, whoever dies;
\* and only what was handed to the living consumer is released by it.
M1 ==
  /\ kept = From(log, rel)
  /\ alive["C"] => rel <= cur

\* M2 FIFO: what a consumer has in hand begins right behind what was released
\* and ends at its last, without a hole. So a successor starts with what its
\* predecessor did not release.
M2 == alive["C"] => Len(view) = cur - rel

\* M3 AtLeastOnce, marked: what a dead consumer was handed, and only what it
\* may have been handed, is marked when it comes again.
M3 ==
  /\ alive["C"] => \A i \in rel + 1..cur : i <= seen => i <= mark
  /\ mark <= dlv

\* M4 NoTear: what is in hand is what was committed, unchanged, for as long as
\* it is in hand.
M4 ==
  /\ Len(view) <= cur /\ cur <= Len(log)
  /\ \A j \in 1..Len(view) : view[j] = log[cur - Len(view) + j]

\* M5 Drain: the end comes behind the last message of the dead, and before the
\* first one of its successor.
M5 ==
  /\ telling => fin # <<>> /\ cur = Head(fin)
  /\ fin # <<>> => cur <= Head(fin)

\* M6 Account: what the producer is told of a dead consumer is what is so, and
\* stays so until it is told; everything that was handed out is in it.
M6 ==
  acct # <<>> => /\ ~alive["C"]
                 /\ acct = <<rel, dlv>>
                 /\ seen <= acct[2]

\* M8 Bounded: no more is kept than fits.
M8 == Len(log) - rel <= Bound

\* L4 NoGhost: nothing of an older generation is ever in hand.
L4 == \A j \in 1..Len(view) : GenerationOf(view[j]) = gen

TypeOK ==
  /\ gen \in 1..MaxGen /\ deaths \in 0..MaxDeaths
  /\ alive \in [Role -> BOOLEAN]
  /\ Len(log) <= MaxMsg
  /\ {rel, dlv, cur, mark, seen} \subseteq 0..MaxMsg
  /\ telling \in BOOLEAN
=============================================================================
