/* TELL reports a step, and PROMISE checks a property, by its name in spec/properties.py.
 *
 * A broken promise stops the search and prints its name. When a trace is validated, a step that breaks a promise is impossible
 * instead, and the name is kept as the reason.
 */
mtype = {
  /* the promises */
  declared_only, expired_absorbs, authentication_first, owner_coherence, open_guard, acknowledged_logged, command_once,
  no_lost_update, replay_equals_state, cache_is_fold, single_owner, view_monotonic, durability, no_early_expiry, rotation,
  revocation_fence,
  deleted_absorbs, authority_at_append, disabled_never_serves, old_password_never_admits, overtaken_change_refused,
  code_opens_once,
  removed_absorbs, secrets_recorded,
  accepted_once, one_outcome, no_execution_after_fence, owner_only, once_runs_once, attempts_bounded, outcome_reaches_client,
  committed_is_outcome,
  /* the steps that can be told; spec/model/story.py has a sentence for each */
  refuse, decide_, conflict, append_, close_, acknowledge_, repeat_, open_, drop_, crash_, recover_, follow_, tick_,
  exchange, answer_again, reuse, turn_down, send, lose, receive, steal, login, grace_ends,
  write_, sync_, sync_fails, tell, kill_, power_cut, restart_, sign, stop_,
  record_, prove_, grant_, overtaken, keep_hash, ask_, turn_down_call, refuse_command, told_, end_, serve_, start_,
  hold_, look_, compared, show_, act_, turn_down_act, file_,
  declare_, move_, submit_, answer_same, turn_down_intent, hear_, resume_, code_, commit_, late_, revoke_, told_revoke, ask_cancel,
  boot_, recovered_, calm_,
  broken
}

#ifdef TRACE
#define PROMISE(name, holds) if :: (!possible || (holds)) :: else -> possible = false; c_code { blocked(#name, now.session, now.taken[0], now.taken[1]); } fi
#define TAKE(number) skip
#define TELL2(what, a, b) skip
#define TELL4(what, a, b, c, d) skip
#define TELL6(what, a, b, c, d, e, f) skip
#else
c_decl {
\#include "told.h"
};
/* Print once per place that some execution reached it. It is not part of the state. */
#define REACHED(what) c_code { static char told_before; if (!told_before) { told_before = 1; told(#what); } }
/* Some execution has recorded the declared transition with this number. (Spin can't search breadth first with a hidden variable.) */
byte row;
#define TAKE(number) row = number; c_code { taken(now.row); }; row = 0
#ifdef LIVENESS
/* Liveness checks search for their claim alone. */
#define PROMISE(name, holds) skip
#else
#define PROMISE(name, holds) if :: (holds) :: else -> printf("@ %d %d\n", broken, name); assert(false) fi
#endif
#define TELL2(what, a, b) REACHED(what); printf("@ %d %d %d\n", what, a, b)
#define TELL4(what, a, b, c, d) REACHED(what); printf("@ %d %d %d %d %d\n", what, a, b, c, d)
#define TELL6(what, a, b, c, d, e, f) REACHED(what); printf("@ %d %d %d %d %d %d %d\n", what, a, b, c, d, e, f)
#endif
