/* Matches execution.pml with the lines that a server wrote about one intent: of its execution, and of the end of its session.
 *
 * Each step of the model that a server writes a line about must find that line next, and takes it; else the step is impossible.
 * What no line tells (a submission, the realm's code, a request to cancel) may happen in between. Records that are `late` were
 * written by lives that told nothing, so before them a crash and a recovery may happen unseen. Intents follow one another, each
 * from an empty log. spec/model/trace/execution_numbers.py writes the numbers.
 */
#include "lines.pml"

#define LINE_start 1
#define LINE_recover 2
#define LINE_append 3
#define LINE_ack 4
#define LINE_end 5
#define LINE_told 6

#define TRIES 1
#define CRASHES 1
#define ATTEMPTS 5
#define TASK provided (possible)

short version, shown;            /* how many records were taken, and how many of them the server has shown */

/* Spin allows no call in an expression, so this is a macro of lines.h. */
#define NEXT_IS(what) (c_expr { LOOK_0 } && kind == what)

inline take() {
  if :: possible -> taken[0] = taken[0] + 1; c_code { taken_one(now.session, now.taken[0], 0); } :: else fi
}
inline take_line(what) {
  if :: NEXT_IS(what) -> PROMISE(crashed_recovers, l_claim); take() :: else -> possible = false fi
}
inline take_line_or_late(what) {
  if
  :: c_expr { LOOK_0 } && l_late -> skip
  :: c_expr { LOOK_0 } && !l_late && kind == what -> PROMISE(crashed_recovers, l_claim); crashes = 0; take()
  :: else -> possible = false
  fi;
  crashes = 0
}
inline take_record(event_, named) {
  if
  :: NEXT_IS(LINE_append) && l_event == event_ && (!OF_AN_ATTEMPT(event_) || l_tab == named) ->
       PROMISE(crashed_recovers, l_claim);
       PROMISE(versions_gapless, l_version == version + 1);
       PROMISE(no_lost_update, l_view == version);
       PROMISE(command_once, l_first);
       PROMISE(owner_only, !l_elsewhere);
       PROMISE(authority_at_append, l_alive);
       PROMISE(declared_only, l_source == execution.state && l_target == target);
       version = version + 1;
       take()
  :: else -> possible = false
  fi
}

inline begin_intent() {
  if :: c_expr { LOOK_0 } -> once = header & 1; cancels = (header >> 1) & 1; stores = (header >> 2) & 1 :: else fi
}
inline next_intent() {
  execution.state = STATE_none; execution.attempt = 0; ended = false;
  up = true; recovered = true; queued = false; asks_store = false; cancel_asked = false; revoking = false;
  own.at = NONE; own.number = 0; stray = 0;
  for (client : 0 .. 1) { submits[client] = false; found[client] = false; follows[client] = false; waits[client] = false; tries[client] = 0 }
  client = 0;
  committed = 0; closed = 0; told_end = false; version = 0; shown = 0; taken[0] = 0;
  session = session + 1; c_code { taken_one(now.session, 0, 0); };
  begin_intent()
}
byte client;

proctype Trace() TASK {
  do
  :: d_step { NEXT_IS(LINE_ack) ->
       PROMISE(acknowledged_logged, l_version == l_command && l_version <= version);
       PROMISE(cache_is_fold, l_view <= version && l_view >= l_version);
       PROMISE(view_monotonic, l_view >= shown);
       shown = l_view;
       take() }
  :: d_step { c_expr { FINISHED } ->
       next_intent();
       if
       :: c_expr { ALL_TAKEN } -> c_code { accept(); }; assert(false)
       :: else
       fi }
  od
}
