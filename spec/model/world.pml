/* The actors: two nodes, each with a door and its own tasks; clients; faults; the clock. */

byte decided, crashes, drops;
bool asked_first;

/* Nodes are symmetric, so node 0 makes the first decision. */
#define MAY_ASK(n) (n == 0 || decided > 0)

#ifdef MUTANT_connection_ids_reused
#define CONNECTION(command) 0
#else
#define CONNECTION(command) (command - 1)
#endif

/* Refusals are not counted, because they change nothing. */
inline count_decision(n) {
  if :: node[n].at == DECIDED -> decided++ :: else fi
}

/* Clients send anything to any node, in any order. A lost command never arrives, a delayed one arrives late, and a repeated one
 * arrives with the same id. The connect of connection k has id k + 1, because a connection asks once. */
#define ASKED(name) :: !ABOUT_CONNECTION(EVENT_##name) -> event = EVENT_##name
proctype Door(byte n) {
  byte event, command;
  bool claim;
  do
  :: atomic { node[n].up && node[n].at == IDLE && decided < DECISIONS && MAY_ASK(n) ->
       if EVENTS(ASKED) fi;
       if :: command = 0 :: command = 1 fi;
       if :: claim = true :: event == EVENT_reauthenticate || event == EVENT_refresh -> claim = false fi;
       d_step { decide(n, event, 0, command, claim); count_decision(n); event = 0; command = 0; claim = false } }
  :: atomic { node[n].up && node[n].at == IDLE && decided < DECISIONS && MAY_ASK(n) ->
       /* The second connection asks after the first. They are symmetric except for what else their ids may name. */
       if :: command = 1 :: asked_first -> command = 2 fi;
       d_step {
         decide(n, EVENT_connect, CONNECTION(command), command, true);
         asked_first = asked_first || node[n].at == DECIDED;
         count_decision(n);
         command = 0 } }
  :: d_step { node[n].up && node[n].at == DECIDED -> append(n) }
  :: d_step { node[n].up && node[n].at == APPENDED -> apply(n) }
  od
}

/* What a node does without a client. Each of these steps can happen only finitely often before all rest, so fairness to the
 * task is fairness to each step. */
proctype Keeper(byte n) {
  do
#ifndef MUTANT_no_recovery
  :: d_step { !node[n].up -> recover(n); TELL2(recover_, n, node[n].view) }
#endif
#ifndef MUTANT_no_follow
  :: d_step { node[n].up && node[n].at == IDLE && node[n].view != version -> TELL2(follow_, n, version); read_log(n) }
#endif
  :: d_step { node[n].up && node[n].at == IDLE && HAS(node[n].gone, 0) -> decide(n, EVENT_disconnect, 0, 0, true) }
  :: d_step { node[n].up && node[n].at == IDLE && HAS(node[n].gone, 1) -> decide(n, EVENT_disconnect, 1, 0, true) }
#ifndef MUTANT_no_expirer
  :: d_step { node[n].up && node[n].at == IDLE && node[n].cache.left == 0 &&
             node[n].cache.state != STATE_none && node[n].cache.state != STATE_expired ->
       decide(n, EVENT_expire, 0, 0, true) }
#endif
  od
}

/* A node may crash and a peer may vanish. Neither must happen. */
proctype Misfortune() {
  byte n;
  do
  :: atomic { crashes < CRASHES ->
       if :: n = 0 :: n = 1 fi;
       if
       :: node[n].up -> d_step { crashes++; crash(n); TELL2(crash_, n, 0); n = 0 }
       :: else -> n = 0
       fi }
  :: atomic { drops < DROPS && (node[0].open | node[1].open) != 0 ->
       drops++;
       if
       :: HAS(node[0].open, 0) -> TELL2(drop_, 0, 0); lose_socket(0, 0)
       :: HAS(node[0].open, 1) -> TELL2(drop_, 0, 1); lose_socket(0, 1)
       :: HAS(node[1].open, 0) -> TELL2(drop_, 1, 0); lose_socket(1, 0)
       :: HAS(node[1].open, 1) -> TELL2(drop_, 1, 1); lose_socket(1, 1)
       fi }
  :: break
  od
}

/* Time passes. */
proctype Clock() {
  do
  :: d_step { durable.left > 0 ->
       durable.left = durable.left - 1;
       if :: node[0].cache.left > 0 -> node[0].cache.left = node[0].cache.left - 1 :: else fi;
       if :: node[1].cache.left > 0 -> node[1].cache.left = node[1].cache.left - 1 :: else fi;
       TELL2(tick_, durable.left, 0) }
  od
}

/* An intent on an open socket is executed after a check of the log itself, not of the node's view. Assumption: check and effect
 * are one step, as in one transaction of the log's database. */
#ifdef MUTANT_no_fence
#define FENCE(n) (node[n].cache.state == STATE_connected)
#else
#define FENCE(n) (durable.state == STATE_connected)
#endif
#define EXECUTABLE(n) (node[n].up && node[n].open != 0 && FENCE(n))
proctype Realm() {
  do
  :: atomic { EXECUTABLE(0) -> PROMISE(revocation_fence, !end_acknowledged) }
  :: atomic { EXECUTABLE(1) -> PROMISE(revocation_fence, !end_acknowledged) }
  od
}

/* A client that repeats one command until it is answered. */
proctype Persistent() {
  do
  :: d_step { !answered && node[0].up && node[0].at == IDLE -> decide(0, EVENT_touch, 0, 1, true) }
  :: d_step { !answered && node[1].up && node[1].at == IDLE -> decide(1, EVENT_touch, 0, 1, true) }
  :: answered -> break
  od
}

init {
  atomic {
    node[0].up = true;
    node[1].up = true;
    run Door(0); run Door(1); run Keeper(0); run Keeper(1); run Misfortune();
#ifndef WITHOUT_CLOCK
    run Clock();
#endif
#ifdef WITH_INTENTS
    run Realm();
#endif
#ifdef WITH_PERSISTENT_CLIENT
    run Persistent();
#endif
  }
}

/* Liveness claims, each under weak fairness of every task above. A run has one claim. */
#define STRANDED(tab) (HAS(OWNED(durable) & ~(node[0].open | node[1].open), tab))
#define open_sockets (node[0].open | node[1].open)
#ifdef CLAIM_expires_or_renewed
ltl expires_or_renewed { [] ((version > 0) -> <> (durable.state == STATE_expired)) }
#endif
#ifdef CLAIM_expired_closes
ltl expired_closes { [] ((durable.state == STATE_expired) -> <> [] (open_sockets == 0)) }
#endif
#ifdef CLAIM_orphan_reaped
ltl orphan_reaped { [] (STRANDED(0) -> <> !STRANDED(0)) && [] (STRANDED(1) -> <> !STRANDED(1)) }
#endif
#ifdef CLAIM_views_catch_up
ltl views_catch_up { <> [] (node[0].up && node[1].up && node[0].view == version && node[1].view == version) }
#endif
#ifdef CLAIM_crashed_recovers
ltl crashed_recovers { [] (!node[0].up -> <> node[0].up) }
#endif
#ifdef CLAIM_command_answered
ltl command_answered { <> answered }
#endif
