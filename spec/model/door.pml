/* The door of a node and its effects on the node's sockets: interlock.machine.machine.Machine.decide, server/runtime/door.py and
 * server/experience/websocket.py, step by step. */

/* Decide a command on the node's own view. A refusal changes nothing, so it is one step with its answer. */
inline decide(n, event_, tab_, command_, claim) {
  node[n].target = TARGET(node[n].cache, event_, tab_, claim, node[n].cache.left > 0);
  if
  :: node[n].target != STATE_none ->
       TELL6(decide_, n, event_, tab_, node[n].target, node[n].view, command_);
       PROMISE(no_early_expiry, !NEEDS_LIFE(event_, node[n].target) || node[n].cache.left > 0 || node[n].cache.state == STATE_expired);
       PROMISE(rotation, event_ != EVENT_refresh || claim);
       node[n].at = DECIDED; node[n].event = event_; node[n].tab = tab_; node[n].command = command_;
#ifdef MUTANT_open_before_append
       if :: event_ == EVENT_connect -> open_socket(n, tab_) :: else fi;
#endif
#ifdef MUTANT_ack_before_append
       acknowledge(n, node[n].view + 1)
#else
       skip
#endif
  :: else ->
       TELL6(refuse, n, event_, tab_, node[n].cache.state, node[n].view, command_);
#ifndef MUTANT_refusal_unanswered
       answered = answered || command_ == 1
#endif
  fi
}

/* Append the decision if the log is still what the decision saw, and does not hold the command yet. */
#ifdef MUTANT_no_command_index
#define IS_REPEAT(n) false
#else
#define IS_REPEAT(n) (node[n].command != 0 && recorded[node[n].command] != 0)
#endif
#ifdef MUTANT_no_version_check
#define IS_STALE(n) false
#else
#define IS_STALE(n) (node[n].view != version)
#endif
inline append(n) {
  if
  :: IS_REPEAT(n) -> repeat(n, node[n].command)
  :: !IS_REPEAT(n) && IS_STALE(n) ->
       TELL4(conflict, n, node[n].event, node[n].view, version);
       forget(n);
       read_log(n)
  :: else ->
#ifdef MUTANT_target_by_hand
       if :: node[n].event == EVENT_reauthenticate -> node[n].target = STATE_authenticated :: else fi;
#endif
       promises_of_append(n, node[n].event, node[n].tab, node[n].target, node[n].view, node[n].command);
       record(n, node[n].event, node[n].tab, node[n].target, node[n].view, node[n].command);
       node[n].recorded_at = version;
       node[n].at = APPENDED
  fi
}

/* Apply the record to the view, notify every open socket, then answer the caller. The socket of a connect was registered before,
 * and opens with it. This is one step: a later answer differs only if it is lost, and a crash before it equals a crash before
 * this step. */
inline apply(n) {
  PROMISE(view_monotonic, node[n].recorded_at >= node[n].view);
  evolve(node[n].cache, n, node[n].event, node[n].tab, node[n].target);
  node[n].view = node[n].recorded_at;
  promise_fold(cache_is_fold, node[n].cache, node[n].view);
  if
  :: node[n].event == EVENT_connect ->
       TELL4(open_, n, node[n].tab, node[n].view, node[n].cache.state);
       open_socket(n, node[n].tab)
  :: else
  fi;
#ifndef MUTANT_publish_after_ack
  publish(n);
#endif
#ifndef MUTANT_ack_before_append
  acknowledge(n, node[n].recorded_at);
#endif
#ifdef MUTANT_publish_after_ack
  publish(n);
#endif
  forget(n)
}

inline acknowledge(n, version_) {
  TELL4(acknowledge_, n, node[n].event, version_, node[n].command);
  promises_of_ack(n, version_, node[n].command);
  answered = answered || node[n].command == 1;
  end_acknowledged = end_acknowledged || node[n].target == STATE_expired
}

inline promises_of_ack(n, version_, command_) {
  PROMISE(acknowledged_logged, version_ > 0 && version_ <= version && (command_ == 0 || recorded[command_] == version_));
  PROMISE(cache_is_fold, version_ <= node[n].view && node[n].view <= version);
  PROMISE(revocation_fence, node[n].cache.state != STATE_expired || node[n].open == 0)
}

/* The log already holds the command: answer with what was recorded, and the current session. */
inline repeat(n, command_) {
  read_log(n);
  TELL4(repeat_, n, recorded[command_], version, command_);
  promises_of_ack(n, recorded[command_], command_);
  answered = answered || command_ == 1;
  end_acknowledged = end_acknowledged || node[n].cache.state == STATE_expired;
  forget(n)
}

inline forget(n) {
  node[n].at = IDLE; node[n].event = 0; node[n].tab = 0; node[n].command = 0; node[n].target = 0; node[n].recorded_at = 0
}

/* Update the view from the log: after a conflict, after another node's append, or at a start. */
#ifdef MUTANT_lagging_reader
#define READABLE(n) (node[n].view == version && version > 0 -> version - 1 : version)
#else
#define READABLE(n) version
#endif
inline read_log(n) {
  PROMISE(view_monotonic, READABLE(n) >= node[n].view);
#ifndef MUTANT_stale_cache
  copy(node[n].cache, durable);
#endif
  node[n].view = READABLE(n);
#ifndef MUTANT_edge_triggered_close
  publish(n);
#endif
  promise_fold(cache_is_fold, node[n].cache, node[n].view)
}

/* Notify the node's sockets of the session's state; all close if it has ended. In a trace, closes are lines of their own. */
inline publish(n) {
#ifndef TRACE
  if
  :: node[n].cache.state == STATE_expired && node[n].open != 0 -> TELL2(close_, n, node[n].open); node[n].open = 0
  :: else
  fi;
#endif
  node[n].gone = node[n].gone & node[n].cache.own[n]
}

inline open_socket(n, tab_) {
  PROMISE(open_guard, node[n].cache.state == STATE_connected && HAS(node[n].cache.own[n], tab_));
  PROMISE(single_owner, !HAS(node[0].open | node[1].open, tab_));
  node[n].open = node[n].open | BIT(tab_)
}

/* The socket is gone, whichever side closed it. */
inline lose_socket(n, tab_) {
  PROMISE(open_guard, HAS(node[n].open, tab_));
#ifndef MUTANT_disconnect_before_close
  node[n].open = node[n].open & ~BIT(tab_);
#endif
  node[n].gone = (node[n].gone | BIT(tab_)) & node[n].cache.own[n]
}

inline crash(n) {
  node[n].up = false; node[n].view = 0; clear(node[n].cache);
  node[n].open = 0; node[n].gone = 0;
  forget(n)
}

/* A start reads the log. Every connection of this node in it is an orphan. */
inline recover(n) {
  node[n].up = true;
  read_log(n);
#ifndef MUTANT_no_reaper
  node[n].gone = node[n].cache.own[n];
#endif
  skip
}
