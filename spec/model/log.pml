/* The durable log: one place appends to it, and nothing changes what it holds. */

/* Apply one transition to the fold, like interlock.machine.session.session.evolve. */
inline evolve(fold, n, event_, tab_, target_) {
  fold.state = target_;
  if
  :: event_ == EVENT_connect -> fold.own[n] = fold.own[n] | BIT(tab_)
  :: event_ == EVENT_disconnect -> fold.own[0] = fold.own[0] & ~BIT(tab_); fold.own[1] = fold.own[1] & ~BIT(tab_)
  :: event_ == EVENT_create || event_ == EVENT_touch || event_ == EVENT_reauthenticate -> fold.left = fold.left + 1
  :: event_ == EVENT_authenticate -> fold.left = fold.left + 1; fold.proved = true
  :: target_ == STATE_expired -> fold.own[0] = 0; fold.own[1] = 0
  :: else
  fi
}

inline copy(to, from) {
  to.state = from.state; to.own[0] = from.own[0]; to.own[1] = from.own[1]; to.left = from.left; to.proved = from.proved
}

inline clear(fold) {
  fold.state = STATE_none; fold.own[0] = 0; fold.own[1] = 0; fold.left = 0; fold.proved = false
}

/* The promises about a record when it is written. `view_` is the version its writer had seen. */
inline promises_of_append(n, event_, tab_, target_, view_, command_) {
  PROMISE(no_lost_update, view_ == version);
  PROMISE(command_once, command_ == 0 || recorded[command_] == 0);
  PROMISE(expired_absorbs, durable.state != STATE_expired);
  PROMISE(authentication_first, event_ != EVENT_connect || durable.proved);
  PROMISE(single_owner, event_ != EVENT_connect || !HAS(OWNED(durable), tab_));
  PROMISE(no_early_expiry, event_ != EVENT_expire || durable.left == 0);
  PROMISE(open_guard, event_ != EVENT_disconnect || !HAS(node[0].open | node[1].open, tab_));
  TAKE(ASK(ROW, durable, event_, tab_, true, event_ != EVENT_expire));
  PROMISE(declared_only, TARGET(durable, event_, tab_, true, event_ != EVENT_expire) == target_)
}

#ifdef KEEP_LOG
/* The whole log, for the checks that replay it. Other checks keep only its fold, which merges many histories into one state. */
typedef Entry { byte event; byte tab; byte node; byte target };
Entry entry[LOG_LENGTH + 1];
Fold replayed;
byte position, old_event, old_tab, old_node, old_target;

/* The fold of the first `upto` records must be `fold`, except for deadlines, which pass without a record. */
inline promise_fold(name, fold, upto) {
  clear(replayed);
  for (position : 1 .. upto) {
    old_event = entry[position].event; old_tab = entry[position].tab;
    old_node = entry[position].node; old_target = entry[position].target;
    evolve(replayed, old_node, old_event, old_tab, old_target)
  }
  PROMISE(name, replayed.state == fold.state && replayed.own[0] == fold.own[0] && replayed.own[1] == fold.own[1] &&
                replayed.proved == fold.proved);
  clear(replayed);
  position = 0; old_event = 0; old_tab = 0; old_node = 0; old_target = 0
}
#else
#define promise_fold(name, fold, upto) skip
#endif

inline record(n, event_, tab_, target_, view_, command_) {
  evolve(durable, n, event_, tab_, target_);
#ifdef MUTANT_projection_forgets
  durable.proved = false;
#endif
  version = view_ + 1;
#ifdef KEEP_LOG
  entry[version].event = event_; entry[version].tab = tab_; entry[version].node = n; entry[version].target = target_;
#endif
  if
  :: command_ != 0 -> recorded[command_] = version
  :: else
  fi;
  TELL6(append_, n, event_, tab_, target_, version, command_);
  PROMISE(owner_coherence, (durable.state == STATE_connected) == (OWNED(durable) != 0));
  promise_fold(replay_equals_state, durable, version)
}
