/* Replaces world.pml by the traces that servers wrote (interlock serve --model-trace), line by line.
 *
 * Each node's lines are taken in the order in which the node wrote them. What it does not write (a crash, reading the log, the
 * clock) may happen in between. A step that breaks a promise is impossible; a trace is accepted if some execution takes every
 * line. Sessions follow one another, each from an empty log. spec/model/trace/session_numbers.py writes the numbers.
 */
#include "lines.pml"

#define LINE_start 1
#define LINE_recover 2
#define LINE_append 3
#define LINE_ack 4
#define LINE_open 5
#define LINE_close 6

bool recovering[2];
bool begun[2];                   /* this life has written a line other than its former life's late records */
SET used, opened;                /* connections that have connected, and whose socket has opened */

/* Spin allows no call in an expression, so these are macros of lines.h. */
#define MAY_0 (possible && c_expr { LOOK_0 })
#define MAY_1 (possible && c_expr { LOOK_1 })

/* A line's view is the node's view. The node may read the log before the line, but its view never goes back. */
#define BEHIND(n) (node[n].up && kind != LINE_start && kind != LINE_recover && !l_late && node[n].view < l_view)

inline take(n) {
  if :: l_first -> recorded[l_command] = 0 :: else fi;
  if :: l_fresh -> used = used & ~BIT(l_tab); opened = opened & ~BIT(l_tab) :: else fi;
  if
  :: kind == LINE_start ->
       PROMISE(crashed_recovers, !l_elsewhere);
       crash(n); recover(n); recovering[n] = l_claim; begun[n] = false
  :: kind == LINE_recover ->
       PROMISE(crashed_recovers, recovering[n]);
       PROMISE(orphan_reaped, durable.own[n] == 0);
       recovering[n] = false
  :: kind == LINE_append && l_late ->
       PROMISE(crashed_recovers, !begun[n]);
       take_append(n)
  :: kind > LINE_recover && !(kind == LINE_append && l_late) ->
       PROMISE(crashed_recovers, !recovering[n] || kind == LINE_ack ||
                                 (kind == LINE_append && l_event == EVENT_disconnect && HAS(durable.own[n], l_tab)));
       if
       :: kind == LINE_append ->
            PROMISE(no_lost_update, l_view == version);
            PROMISE(single_owner, !l_elsewhere);
            take_append(n)
       :: kind == LINE_ack ->
            PROMISE(view_monotonic, l_view >= node[n].view);
            PROMISE(cache_is_fold, l_view == node[n].view);
            if :: possible -> promises_of_ack(n, l_version, l_command) :: else fi
       :: kind == LINE_open ->
            PROMISE(view_monotonic, l_view >= node[n].view);
            PROMISE(cache_is_fold, l_view == node[n].view);
            PROMISE(single_owner, !HAS(opened, l_tab));
            if :: possible -> open_socket(n, l_tab); opened = opened | BIT(l_tab) :: else fi
       :: kind == LINE_close ->
            PROMISE(view_monotonic, l_view >= node[n].view);
            PROMISE(cache_is_fold, l_view == node[n].view);
            if :: possible -> lose_socket(n, l_tab) :: else fi
       fi
  fi;
  if :: kind != LINE_start && !(kind == LINE_append && l_late) -> begun[n] = true :: else fi;
  if :: possible -> taken[n] = taken[n] + 1; c_code { taken_one(now.session, now.taken[0], now.taken[1]); } :: else fi
}

/* The time stamps decide which deadlines have passed. */
inline take_append(n) {
  durable.left = (l_alive -> 1 : 0);
  PROMISE(versions_gapless, l_version == version + 1);
  PROMISE(expired_absorbs, durable.state != STATE_expired);
  PROMISE(no_early_expiry, l_event != EVENT_expire || !l_alive);
  PROMISE(rotation, l_event != EVENT_refresh || l_claim);
  PROMISE(declared_only, l_source == durable.state && TARGET(durable, l_event, l_tab, l_claim, l_alive) == l_target);
  if
  :: possible ->
       promises_of_append(n, l_event, l_tab, l_target, version, l_command);
       PROMISE(single_owner, l_event != EVENT_connect || !HAS(used, l_tab));
       if :: l_event == EVENT_connect -> used = used | BIT(l_tab) :: else fi;
       if :: possible -> record(n, l_event, l_tab, l_target, version, l_command) :: else fi
  :: else
  fi
}

inline next_session() {
  crash(0); crash(1); clear(durable); version = 0; possible = true;
  for (command_slot : 0 .. COMMANDS) { recorded[command_slot] = 0 }
  command_slot = 0;
  used = 0; opened = 0;
  recovering[0] = false; recovering[1] = false; begun[0] = false; begun[1] = false; taken[0] = 0; taken[1] = 0;
  session = session + 1; c_code { taken_one(now.session, 0, 0); }
}
byte command_slot;

active proctype Trace() {
  do
  :: d_step { MAY_0 && BEHIND(0) && version == l_view -> read_log(0) }
  :: d_step { MAY_1 && BEHIND(1) && version == l_view -> read_log(1) }
  :: d_step { MAY_0 && !BEHIND(0) -> take(0) }
  :: d_step { MAY_1 && !BEHIND(1) -> take(1) }
  :: d_step { possible && c_expr { FINISHED } ->
       next_session();
       if
       :: c_expr { ALL_TAKEN } -> c_code { accept(); }; assert(false)
       :: else
       fi }
  od
}
