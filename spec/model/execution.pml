/* One intent that two clients submit under the same id, its execution, the session that they do it in, and a server that runs
 * the realm's code and may crash.
 *
 * The relation NEXT comes from spec/generated/execution.pml, so from the declaration alone. What the realm declares
 * (effects, and what the end of the session does) is chosen at the beginning. If the effects are transactional, the realm's
 * store commits them with the result, and is asked before an attempt is given up: the answer, and the record that follows,
 * are one step. Every step of a task is one atomic block. What a task has read may be old when it appends; each append is
 * decided on the log at that time. A crash loses the server's memory, but code that it ran may go on elsewhere and act
 * late. Each MUTANT_… switch removes one safety measure. With TRACE, what a server wrote down decides which of these steps
 * it took: see intent.pml.
 */
#include "generated/execution.pml"
#include "promises.pml"

/* The log: the execution, and the end of the session. */
typedef Execution { byte state; byte attempt };
Execution execution;
bool ended;

/* The realm's declaration: effects are `once`, or transactional (`stores`), else idempotent; the end of the session cancels. */
bool once, stores, cancels;
byte committed, closed;           /* the store: the attempt whose result it has committed; it commits none up to `closed` */

/* The server's memory. `recovered`: it has gone through what it found, and takes work. `queued`: it will start the execution.
 * `asks_store`: it has taken work and still waits for the store to say what became of a lost attempt. */
bool up = true, recovered = true, queued, asks_store, cancel_asked, revoking;
#define NONE 0
#define RUNS 1
#define HANGS 2
#define RETURNED 3
#define RAISED 4
typedef Attempt { byte at; byte number };
Attempt own;

byte stray;                       /* an attempt that the server has given up, whose code still acts; 0: none */

/* The clients. `submits` and `follows` are lost with the server; a client waits until it has heard the outcome. */
bool submits[2], found[2], follows[2], waits[2];
byte tries[2];

bool told_end;                    /* for the promises: the end of the session was acknowledged */
bool calm;                        /* nothing disturbs any more */
byte crashes;

/* The declared guards: `named` is the attempt that the command names, 0 if it names none. */
#define RUNNER(fold) (fold.state == STATE_running -> fold.attempt : 0)
#define GUARD_owner(fold, named) (named == RUNNER(fold))
#ifdef MUTANT_attempts_unbounded
#define GUARD_repeatable(fold, named) (!once)
#else
#define GUARD_repeatable(fold, named) (!once && fold.attempt < ATTEMPTS)
#endif
#define DECLARED(event, named) (ASK(NEXT, execution, event, named) != STATE_none)

#define KNOWN (execution.state != STATE_none)
#define OVER (execution.state == STATE_succeeded || execution.state == STATE_failed || execution.state == STATE_cancelled)
#define GIVES_UP(event) (event == EVENT_fail || event == EVENT_interrupt || event == EVENT_cancel)
#define OF_AN_ATTEMPT(event) (event == EVENT_succeed || event == EVENT_fail || event == EVENT_interrupt)

byte target;                      /* of the record that is being appended */
#ifdef TRACE
#include "intent.pml"
#else
#define TASK
#define take_record(event_, named) skip
#define take_line(what) skip
#define take_line_or_late(what) skip
#endif

/* Append one record. */
inline record(event_, named) {
  TAKE(ASK(ROW, execution, event_, named));
  target = ASK(NEXT, execution, event_, named);
#ifdef MUTANT_interrupted_waits
  if :: event_ == EVENT_interrupt -> target = STATE_accepted :: else fi;
#endif
  TELL4(move_, event_, execution.state, target, named);
  take_record(event_, named);
  PROMISE(accepted_once, event_ != EVENT_accept || !KNOWN);
  PROMISE(one_outcome, !OVER);
  PROMISE(owner_only, !OF_AN_ATTEMPT(event_) || named == RUNNER(execution));
  PROMISE(owner_only, event_ != EVENT_interrupt || own.at == NONE);
  PROMISE(once_runs_once, event_ != EVENT_start || !once || execution.attempt == 0);
  PROMISE(attempts_bounded, event_ != EVENT_start || execution.attempt < ATTEMPTS);
  PROMISE(declared_only, target == ASK(NEXT, execution, event_, named) && target != STATE_none);
  PROMISE(committed_is_outcome, committed == 0 || (event_ == EVENT_succeed && named == committed));
  if :: event_ == EVENT_start -> execution.attempt++ :: else fi;
#ifndef MUTANT_store_left_open
  if :: GIVES_UP(event_) && stores -> closed = execution.attempt :: else fi;
#endif
  execution.state = target; target = 0
}

/* A client submits the intent, perhaps again. The identity is looked up at the append, and so is the session. */
#ifdef MUTANT_identity_before_append
#define HELD(me) found[me]
#else
#define HELD(me) KNOWN
#endif
#ifdef MUTANT_accept_unconditional
#define MAY_ACCEPT true
#else
#define MAY_ACCEPT (!ended)
#endif
#ifdef MUTANT_recovery_interrupts_all
#define WORKS up
#else
#define WORKS (up && recovered)
#endif
inline hold_on(me) { submits[me] = false; found[me] = false; follows[me] = true; waits[me] = true }
proctype Client(byte me) TASK {
  do
  :: d_step { WORKS && !submits[me] && tries[me] < TRIES ->
       submits[me] = true; found[me] = KNOWN; tries[me]++; TELL2(submit_, me, 0) }
  :: d_step { submits[me] && HELD(me) -> TELL2(answer_same, me, execution.state); hold_on(me) }
  :: d_step { submits[me] && !HELD(me) && MAY_ACCEPT ->
       record(EVENT_accept, 0);
       PROMISE(no_execution_after_fence, !told_end);
       queued = true; hold_on(me) }
  :: d_step { submits[me] && !HELD(me) && !MAY_ACCEPT ->
       TELL2(turn_down_intent, me, 0); submits[me] = false; found[me] = false }
  :: d_step { follows[me] && OVER -> TELL2(hear_, me, execution.state); follows[me] = false; waits[me] = false }
#ifndef MUTANT_outcome_sent_once
  :: d_step { WORKS && waits[me] && !follows[me] -> follows[me] = true; TELL2(resume_, me, 0) }
#endif
  od
}

/* The server starts what is queued, under the session's authority. The realm's code returns, raises or hangs. An outcome is
 * appended by its attempt, and under the session's authority if the end of the session cancels. */
#ifdef MUTANT_start_unconditional
#define MAY_START true
#else
#define MAY_START (!ended)
#endif
#ifdef MUTANT_success_unconditional
#define MAY_SUCCEED true
#else
#define MAY_SUCCEED (stores -> committed == execution.attempt : !(cancels && ended))
#endif
#ifdef MUTANT_store_not_asked
#define MAY_GIVE_UP true
#else
#define MAY_GIVE_UP (committed == 0)
#endif
#define WAITING (queued && execution.state == STATE_accepted)
#define CANCELLED (cancel_asked || (cancels && ended))
inline give_up() { stray = (own.at == RUNS || own.at == HANGS -> own.number : stray); own.at = NONE; own.number = 0 }
proctype Runner() TASK {
  do
  :: d_step { WAITING && MAY_START ->
       record(EVENT_start, 0);
       PROMISE(no_execution_after_fence, !told_end);
       own.at = RUNS; own.number = execution.attempt; queued = false }
  :: d_step { WAITING && (cancel_asked || ended) -> record(EVENT_cancel, 0); queued = false }
  /* Its realm is gone, or its time is over. */
  :: d_step { WAITING -> record(EVENT_fail, 0); queued = false }
  :: d_step { own.at == RUNS && stores && own.number > closed && committed == 0 ->
       committed = own.number; TELL2(commit_, own.number, 0) }
  :: d_step { own.at == RUNS && (!stores || committed == own.number) -> own.at = RETURNED; TELL2(code_, RETURNED, own.number) }
  :: d_step { own.at == RUNS -> own.at = RAISED; TELL2(code_, RAISED, own.number) }
  :: d_step { own.at == RUNS -> own.at = HANGS; TELL2(code_, HANGS, own.number) }
  :: d_step { (own.at == RETURNED || (own.at != NONE && committed == own.number)) && MAY_SUCCEED &&
              DECLARED(EVENT_succeed, own.number) ->
       record(EVENT_succeed, own.number);
       PROMISE(no_execution_after_fence, stores || !cancels || !told_end);
       give_up() }
  :: d_step { own.at == RAISED && MAY_GIVE_UP && DECLARED(EVENT_fail, own.number) -> record(EVENT_fail, own.number); give_up() }
#ifndef MUTANT_no_deadline
  /* Its time is over. */
  :: d_step { (own.at == RUNS || own.at == HANGS) && MAY_GIVE_UP && DECLARED(EVENT_fail, own.number) ->
       record(EVENT_fail, own.number); give_up() }
#endif
  /* The grace is over, whatever the code does. */
  :: d_step { own.at != NONE && CANCELLED && MAY_GIVE_UP && DECLARED(EVENT_cancel, own.number) ->
       record(EVENT_cancel, own.number); give_up() }
  od
}

/* Code that the server has given up, or that a former process ran, acts late. */
inline act_late(event_) {
  if
  :: DECLARED(event_, stray) && (event_ == EVENT_succeed -> MAY_SUCCEED : MAY_GIVE_UP) ->
       record(event_, stray);
       PROMISE(no_execution_after_fence, event_ != EVENT_succeed || stores || !cancels || !told_end)
  :: else -> TELL2(late_, event_, stray)
  fi;
  stray = 0
}
proctype Stray() TASK {
  do
  :: d_step { stray > 0 -> act_late(EVENT_succeed) }
  :: d_step { stray > 0 -> act_late(EVENT_fail) }
  :: d_step { stray > 0 -> act_late(EVENT_interrupt) }
  :: d_step { stray > closed && stores && committed == 0 -> committed = stray; TELL2(commit_, stray, 0) }
  od
}

/* Somebody revokes the session, or cancels the execution. A start interrupts what runs no more, queues what waits, and takes
 * work then, but for what waits for the answer of its store; from then on a recorded end of the session counts as acknowledged,
 * because it is unknown whether it was. */
#ifdef MUTANT_recovery_interrupts_all
#define LOST (execution.state == STATE_running)
#else
#define LOST (execution.state == STATE_running && own.at == NONE)
#endif
#ifdef MUTANT_recovery_forgets
#define TO_QUEUE false
#else
#define TO_QUEUE (execution.state == STATE_accepted)
#endif
proctype World() TASK {
  do
#ifdef MUTANT_revocation_told_first
  :: d_step { WORKS && !ended && !calm && !revoking -> revoking = true; told_end = true; TELL2(told_revoke, 0, 0) }
  :: d_step { revoking -> revoking = false; ended = true; TELL2(revoke_, 0, 0) }
#else
  :: d_step { WORKS && !ended && !calm -> ended = true; revoking = true; take_line(LINE_end); TELL2(revoke_, 0, 0) }
  :: d_step { revoking -> revoking = false; told_end = true; take_line(LINE_told); TELL2(told_revoke, 0, 0) }
#endif
  :: d_step { WORKS && KNOWN && !OVER && !cancel_asked && !calm -> cancel_asked = true; TELL2(ask_cancel, 0, 0) }
  :: d_step { up && crashes < CRASHES && !calm ->
       crashes++; up = false; recovered = false; queued = false; asks_store = false; cancel_asked = false; revoking = false;
       stray = (own.at != NONE -> own.number : stray); own.at = NONE; own.number = 0;
       submits[0] = false; found[0] = false; follows[0] = false;
       submits[1] = false; found[1] = false; follows[1] = false;
       take_line_or_late(LINE_start);
       TELL2(kill_, 0, 0) }
  :: d_step { !up -> up = true; TELL2(boot_, execution.state, 0) }
  :: d_step { up && (!recovered || stores) && LOST && MAY_GIVE_UP ->
       record(EVENT_interrupt, execution.attempt) }
  :: d_step { asks_store && execution.state == STATE_accepted -> asks_store = false; queued = true }
  :: d_step { up && LOST && stores && committed == execution.attempt -> record(EVENT_succeed, committed) }
  :: d_step { up && !recovered && (execution.state != STATE_running || stores) ->
       recovered = true; queued = TO_QUEUE; asks_store = (execution.state == STATE_running); told_end = told_end || ended;
       take_line_or_late(LINE_recover);
       TELL2(recovered_, execution.state, 0) }
#ifndef TRACE
  :: d_step { !calm -> calm = true; TELL2(calm_, 0, 0) }
#endif
  od
}

/* Nobody can do anything any more. */
proctype Rest() {
  timeout;
  PROMISE(outcome_reaches_client, (!KNOWN || OVER) && !waits[0] && !waits[1]);
  PROMISE(committed_is_outcome, committed == 0 || execution.state == STATE_succeeded)
}

init {
  atomic {
#ifdef TRACE
    begin_intent();
    run Client(0); run Client(1); run Runner(); run Stray(); run World(); run Trace()
#else
    if :: once = true :: stores = true :: true fi;
    if :: cancels = true :: cancels = false fi;
    TELL4(declare_, once, stores, cancels, 0);
    run Client(0); run Client(1); run Runner(); run Stray(); run World(); run Rest()
#endif
  }
}
