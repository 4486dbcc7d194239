/* One account with two sessions: logins and calls in progress, administrators, and a server that may crash.
 *
 * The relation NEXT comes from spec/generated/account.pml, so from the declaration alone. Read this file beside
 * server/runtime/accounts/ and server/surface/accounts.py. Of a session it models what the account decides: when it was granted,
 * and that it ended. lifecycle.pml models the rest of a session's life, and several nodes.
 *
 * Every step of a task is one atomic block. What a task has read may be old when it appends; each append is decided on the log
 * at that time. A crash ends every task and leaves the log. Each MUTANT_… switch removes one safety measure.
 */
#include "generated/account.pml"
#include "promises.pml"

/* The log. */
typedef Account {
  byte state;
  byte epoch;           /* what was granted under an older epoch is void */
  byte hash;            /* the number of the password hash; a command names it by its commitment */
  byte password;        /* the number of the hashed password */
  bool outdated;        /* the hash has weaker parameters than new ones */
  byte code             /* the number of the reset code that counts, 0 for none; that its time passes is left out */
};
Account account;

typedef Session {
  bool begun, lives;
  byte granted;         /* the account's epoch at its login or renewal */
  byte renewals;
  byte password, after  /* for the promises: the password of its login, and the number of revocations before it */
};
Session session[SESSIONS];

/* The tasks: what each has read, and its next step. Lost in a crash. */
#define IDLE 0
#define TO_APPEND 1
#define TO_END 2          /* end older sessions, then answer */
#define TO_END_FIRST 3
#define TO_CHANGE 4
#define TO_END_OTHER 5
typedef Login { byte at; byte epoch; byte hash; byte password; byte after; bool rehash };
typedef Call { byte at; byte session; byte renewals; byte hash; byte password; byte epoch };
typedef Command { byte at; byte event; byte epoch; byte closing };
Login opening[SESSIONS];      /* the login that opens session i */
Call call[2];
Command command[ADMINISTRATORS];
bool up = true;

byte hashes, passwords, codes, changes, closings, crashes;

/* Only for the promises. A revocation is a record that voids what was granted before: a password change, a disable or a
 * delete. A closing is a disable or a delete. */
byte revocations, last_closing, told_closing, told_password, replaced_hashes;
byte code_after;        /* the number of revocations before the last code was issued */

#define HAS(set, k) (((set) >> (k)) & 1)
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* The declared guards: `named` is the hash, or the code, that the command names. */
#define GUARD_current_password(fold, named) (named == fold.hash)
#define GUARD_has_password(fold, named) true
#define GUARD_reset_code(fold, named) (named == fold.code)
#define DECLARED(event, named) (ASK(NEXT, account, event, named) != STATE_none)

#define CLOSES(event) (event == EVENT_disable || event == EVENT_delete)
#define REPLACES_PASSWORD(event) (event == EVENT_change_password || event == EVENT_reset_password)
#define REVOKES(event) (CLOSES(event) || REPLACES_PASSWORD(event))
#define SETS_HASH(event) (event == EVENT_register || REPLACES_PASSWORD(event) || event == EVENT_rehash)
#ifdef MUTANT_epoch_kept_by_disable
#define RAISES_EPOCH(event) (REVOKES(event) && event != EVENT_disable)
#else
#ifdef MUTANT_epoch_kept_by_change
#define RAISES_EPOCH(event) (CLOSES(event) || event == EVENT_reset_password)
#else
#ifdef MUTANT_epoch_kept_by_reset
#define RAISES_EPOCH(event) (CLOSES(event) || event == EVENT_change_password)
#else
#define RAISES_EPOCH(event) REVOKES(event)
#endif
#endif
#endif
#ifdef MUTANT_code_kept_by_reset
#define VOIDS_CODE(event) (REVOKES(event) && event != EVENT_reset_password)
#else
#ifdef MUTANT_code_kept_by_disable
#define VOIDS_CODE(event) (REVOKES(event) && event != EVENT_disable)
#else
#define VOIDS_CODE(event) REVOKES(event)
#endif
#endif

/* Append one record of the account that the declaration allows. Here and below TELL precedes PROMISE, so that a story ends with
 * the step that breaks a promise. */
byte target;
inline record_account(event_, named, password_) {
  TAKE(ASK(ROW, account, event_, named));
  target = ASK(NEXT, account, event_, named);
#ifdef MUTANT_groups_enable
  if :: event_ == EVENT_set_groups -> target = STATE_active :: else fi;
#endif
  if :: RAISES_EPOCH(event_) -> account.epoch++ :: else fi;
  TELL4(record_, event_, account.state, target, account.epoch);
  PROMISE(deleted_absorbs, account.state != STATE_deleted);
  PROMISE(declared_only, target == ASK(NEXT, account, event_, named));
  if :: REVOKES(event_) -> revocations++ :: else fi;
  if :: CLOSES(event_) -> last_closing = revocations :: else fi;
  if :: event_ == EVENT_rehash -> replaced_hashes = replaced_hashes | (1 << named) :: else fi;
  if
  :: SETS_HASH(event_) ->
       hashes++; account.hash = hashes; account.password = password_; account.outdated = (event_ == EVENT_register)
  :: else
  fi;
  if
  :: VOIDS_CODE(event_) -> account.code = 0; code_after = 0
  :: event_ == EVENT_issue_reset_code -> codes++; account.code = codes; code_after = revocations
  :: else
  fi;
#ifdef MUTANT_enable_restores
  if :: event_ == EVENT_enable -> session[0].lives = session[0].begun; session[1].lives = session[1].begun :: else fi;
#endif
  account.state = target; target = 0
}

/* End the sessions granted before `epoch_`, one record each. */
#define OLDER(i, epoch_) (session[i].lives && session[i].granted < epoch_)
#define ANY_OLDER(epoch_) (OLDER(0, epoch_) || OLDER(1, epoch_))
inline end_session(i) { session[i].lives = false; TELL2(end_, i, 0) }
inline end_older(epoch_) { if :: OLDER(0, epoch_) -> end_session(0) :: else -> end_session(1) fi }

/* A login compares the password with the account as it is now, and appends its session later, on condition that the account is
 * still active and at that epoch. A hash with old parameters is replaced at any time after the comparison. */
#ifdef MUTANT_login_unconditional
#define MAY_OPEN(i) true
#else
#define MAY_OPEN(i) (account.state == STATE_active && account.epoch == opening[i].epoch)
#endif
/* Sessions are symmetric, so the first free one is opened next. */
#define FREE(i) (!session[i].begun && opening[i].at == IDLE)
#define NEXT_TO_OPEN(i) (FREE(i) && (i == 0 || !FREE(0)))
inline forget_epoch(i) { opening[i].at = IDLE; opening[i].epoch = 0; opening[i].after = 0 }
inline forget_hash(i) { opening[i].rehash = false; opening[i].hash = 0; opening[i].password = 0 }
proctype Opener(byte i) {
  do
  :: d_step { up && NEXT_TO_OPEN(i) && account.state == STATE_active ->
       opening[i].at = TO_APPEND; opening[i].epoch = account.epoch; opening[i].after = revocations;
       opening[i].hash = account.hash; opening[i].password = account.password; opening[i].rehash = account.outdated;
       TELL2(prove_, i, account.epoch) }
  :: d_step { opening[i].at == TO_APPEND && MAY_OPEN(i) ->
       TELL2(grant_, i, opening[i].epoch);
       PROMISE(authority_at_append, account.state == STATE_active && opening[i].after == revocations);
       PROMISE(old_password_never_admits, opening[i].password >= told_password);
       session[i].begun = true; session[i].lives = true; session[i].granted = opening[i].epoch;
       session[i].password = opening[i].password; session[i].after = opening[i].after;
       forget_epoch(i);
       if :: opening[i].rehash :: else -> forget_hash(i) fi }
  :: d_step { opening[i].at == TO_APPEND && !MAY_OPEN(i) ->
       TELL2(overtaken, i, account.epoch); forget_epoch(i); forget_hash(i) }
  :: d_step { opening[i].rehash ->
       if
       :: DECLARED(EVENT_rehash, opening[i].hash) -> record_account(EVENT_rehash, opening[i].hash, opening[i].password)
       :: else -> TELL2(keep_hash, i, 0)
       fi;
       if :: opening[i].at == IDLE -> forget_hash(i) :: else -> opening[i].rehash = false; opening[i].hash = 0 fi }
  od
}

/* The owner sets another password with the code that an administrator has issued. No session is renewed by it. */
#define MAY_RESET(me) (up && call[me].at == IDLE && (me == 0 || call[0].at != IDLE) && \
                       changes < CHANGES && codes > 0 && DECLARED(EVENT_reset_password, codes))
inline reset_password(me) {
  changes++; passwords++;
  PROMISE(code_opens_once, code_after == revocations);
  replaced_hashes = replaced_hashes | (1 << account.hash);
  record_account(EVENT_reset_password, codes, passwords);
  call[me].at = TO_END; call[me].password = passwords; call[me].epoch = account.epoch
}

/* A call of a session: change the password, or end the other session. It is checked against the log as it is now, and appended
 * later, on condition that the session has neither ended nor been renewed since, and that its account has taken no rights away.
 * A password change renews the calling session; older sessions end before the answer. */
#define LIVES(asking) (asking.lives)
#define SAME_RENEWAL(asking, me) (asking.renewals == call[me].renewals)
#ifdef MUTANT_call_of_a_lost_account
#define BACKED(asking) true
#else
#define BACKED(asking) (account.state != STATE_deleted && asking.granted == account.epoch)
#endif
#define HAS_AUTHORITY(asking, me) (LIVES(asking) && SAME_RENEWAL(asking, me) && BACKED(asking))
#ifdef MUTANT_call_of_an_ended_session
#define MAY_APPEND(asking, me) (SAME_RENEWAL(asking, me) && BACKED(asking))
#else
#ifdef MUTANT_call_of_a_renewed_session
#define MAY_APPEND(asking, me) (LIVES(asking) && BACKED(asking))
#else
#define MAY_APPEND(asking, me) HAS_AUTHORITY(asking, me)
#endif
#endif
/* For the promise, without the epochs: the number of revocations is what it was at the login or the renewal. */
#define RIGHTFUL(asking, me, now) (LIVES(asking) && SAME_RENEWAL(asking, me) && asking.after == now)
#define MAY_CHANGE(me) (MAY_APPEND(session[call[me].session], me) && DECLARED(EVENT_change_password, call[me].hash))
#define MAY_END_OTHER(me) (MAY_APPEND(session[call[me].session], me))
#define MAY_ASK(me, i) (up && session[i].lives && call[me].at == IDLE && (me == 0 || call[0].at != IDLE))
#define MAY_ASK_TO_CHANGE(me, i) (MAY_ASK(me, i) && account.state == STATE_active && changes < CHANGES)
inline ask(me, i, at_, hash_) {
  call[me].at = at_; call[me].session = i; call[me].renewals = session[i].renewals; call[me].hash = hash_;
  TELL2(ask_, i, at_ == TO_CHANGE)
}
inline forget_call(me) {
  call[me].at = IDLE; call[me].session = 0; call[me].renewals = 0;
  call[me].hash = 0; call[me].password = 0; call[me].epoch = 0
}
inline refuse_call(me) { TELL2(turn_down_call, call[me].session, call[me].at == TO_CHANGE); forget_call(me) }
proctype Owner(byte me) {
  byte i;
  do
  :: d_step { MAY_ASK_TO_CHANGE(me, 0) -> ask(me, 0, TO_CHANGE, account.hash) }
  :: d_step { MAY_ASK_TO_CHANGE(me, 1) -> ask(me, 1, TO_CHANGE, account.hash) }
  :: d_step { MAY_RESET(me) -> reset_password(me) }
  :: d_step { MAY_ASK(me, 0) && session[1].lives -> ask(me, 0, TO_END_OTHER, 0) }
  :: d_step { MAY_ASK(me, 1) && session[0].lives -> ask(me, 1, TO_END_OTHER, 0) }
  :: d_step { call[me].at == TO_CHANGE && changes < CHANGES && MAY_CHANGE(me) ->
       i = call[me].session;
       changes++; passwords++;
       record_account(EVENT_change_password, call[me].hash, passwords);
       PROMISE(authority_at_append, RIGHTFUL(session[i], me, revocations - 1));
       PROMISE(overtaken_change_refused, !HAS(replaced_hashes, call[me].hash));
       replaced_hashes = replaced_hashes | (1 << call[me].hash);
       session[i].granted = account.epoch; session[i].renewals++;
       session[i].password = passwords; session[i].after = revocations;
       forget_call(me);
       call[me].at = TO_END; call[me].password = passwords;
#ifndef MUTANT_change_ends_nobody
       call[me].epoch = account.epoch;
#endif
       i = 0 }
  :: d_step { call[me].at == TO_CHANGE && !MAY_CHANGE(me) -> refuse_call(me) }
  :: d_step { call[me].at == TO_END_OTHER && MAY_END_OTHER(me) ->
       if :: session[1 - call[me].session].lives -> end_session(1 - call[me].session) :: else fi;
       PROMISE(authority_at_append, RIGHTFUL(session[call[me].session], me, revocations));
       forget_call(me) }
  :: d_step { call[me].at == TO_END_OTHER && !MAY_END_OTHER(me) -> refuse_call(me) }
  :: d_step { call[me].at == TO_END && ANY_OLDER(call[me].epoch) -> end_older(call[me].epoch) }
  :: d_step { call[me].at == TO_END && !ANY_OLDER(call[me].epoch) ->
       told_password = MAX(told_password, call[me].password);
       TELL2(told_, EVENT_change_password, 0); forget_call(me) }
  od
}

/* An administrator's command is decided and appended in one step. A disable or a delete is answered after the older sessions
 * have ended, and so is a repeated disable. */
#ifdef MUTANT_delete_ends_nobody
#define ENDS_OLDER(event) (event != EVENT_delete)
#else
#ifdef MUTANT_ends_before_record
#define ENDS_OLDER(event) (event != EVENT_disable)
#else
#define ENDS_OLDER(event) true
#endif
#endif
inline go_on_to_end(me, event_) {
  command[me].at = TO_END; command[me].event = event_; command[me].closing = last_closing;
  command[me].epoch = (ENDS_OLDER(event_) -> account.epoch : 0)
}
inline forget_command(me) { command[me].at = IDLE; command[me].event = 0; command[me].epoch = 0; command[me].closing = 0 }
inline submit(me, event_) {
  if
  :: DECLARED(event_, 0) ->
       record_account(event_, 0, 0);
       if
       :: CLOSES(event_) -> closings++; go_on_to_end(me, event_)
       :: else -> TELL2(told_, event_, 0); forget_command(me)
       fi
  :: !DECLARED(event_, 0) && event_ == EVENT_disable && account.state == STATE_disabled ->
       go_on_to_end(me, event_);
#ifdef MUTANT_repeat_told_at_once
       command[me].epoch = 0;
#endif
       skip
  :: else -> TELL2(refuse_command, event_, account.state); forget_command(me)
  fi
}
#define MAY_COMMAND(me) (up && account.state != STATE_none && command[me].at == IDLE && (me == 0 || command[0].at != IDLE))
#define MAY_CLOSE(me) (MAY_COMMAND(me) && closings < CLOSINGS)
proctype Administrator(byte me) {
  do
#ifdef MUTANT_disable_told_first
  :: d_step { MAY_CLOSE(me) && account.state == STATE_active ->
       command[me].at = TO_APPEND; told_closing = MAX(told_closing, revocations + 1); TELL2(told_, EVENT_disable, 0) }
#else
#ifdef MUTANT_ends_before_record
  :: d_step { MAY_CLOSE(me) && account.state == STATE_active -> command[me].at = TO_END_FIRST }
  :: d_step { command[me].at == TO_END_FIRST && ANY_OLDER(255) -> end_older(255) }
  :: d_step { command[me].at == TO_END_FIRST && !ANY_OLDER(255) -> command[me].at = TO_APPEND }
#else
  :: d_step { MAY_CLOSE(me) -> submit(me, EVENT_disable) }
#endif
#endif
  :: d_step { command[me].at == TO_APPEND && closings < CLOSINGS -> submit(me, EVENT_disable) }
  :: d_step { MAY_CLOSE(me) -> submit(me, EVENT_delete) }
  :: d_step { MAY_COMMAND(me) -> submit(me, EVENT_enable) }
  :: d_step { MAY_COMMAND(me) -> submit(me, EVENT_set_groups) }
  :: d_step { MAY_COMMAND(me) && codes < CODES -> submit(me, EVENT_issue_reset_code) }
  :: d_step { command[me].at == TO_END && ANY_OLDER(command[me].epoch) -> end_older(command[me].epoch) }
  :: d_step { command[me].at == TO_END && !ANY_OLDER(command[me].epoch) ->
       told_closing = MAX(told_closing, command[me].closing);
       TELL2(told_, command[me].event, 0); forget_command(me) }
  od
}

/* Requests of a session are served while it is alive. It may end for other reasons at any time. */
proctype Requests(byte i) {
  do
  :: d_step { up && session[i].lives ->
       TELL2(serve_, i, account.state);
       PROMISE(disabled_never_serves, session[i].after >= told_closing &&
                                      (account.state == STATE_active || last_closing > told_closing));
       PROMISE(old_password_never_admits, session[i].password >= told_password) }
  :: d_step { up && session[i].lives -> end_session(i) }
  od
}

/* A user registers. The server may crash between any two steps. A start ends what was granted under an older epoch before it
 * serves. From then on everything in the log counts as acknowledged, because it is unknown whether it was. */
#ifdef MUTANT_start_ends_nobody
#define START_ENDS_OLDER 0
#else
#define START_ENDS_OLDER account.epoch
#endif
proctype World() {
  do
  :: d_step { account.state == STATE_none -> passwords++; record_account(EVENT_register, 0, passwords) }
  :: d_step { up && crashes < CRASHES && account.state != STATE_none ->
       crashes++; up = false;
       forget_epoch(0); forget_epoch(1); forget_hash(0); forget_hash(1);
       forget_call(0); forget_call(1); forget_command(0); forget_command(1);
       TELL2(kill_, 0, 0) }
  :: d_step { !up && ANY_OLDER(START_ENDS_OLDER) -> end_older(START_ENDS_OLDER) }
  :: d_step { !up && !ANY_OLDER(START_ENDS_OLDER) ->
       up = true; told_closing = last_closing; told_password = MAX(told_password, account.password);
       TELL2(start_, account.state, account.epoch) }
  od
}

init {
  atomic {
    run Opener(0); run Opener(1); run Owner(0); run Owner(1); run Administrator(0); run Administrator(1);
    run Requests(0); run Requests(1); run World()
  }
}
