/* One secret's file, the instances of it that the log holds, an act of whoever has shown it, and a server that may crash.
 *
 * The relation NEXT comes from spec/generated/secret.pml, so from the declaration alone. Read this file beside
 * server/runtime/secret_records.py. The file appears and goes at any time; a server looks at it again and again, and before it
 * takes work. What a look has seen may be old when it records. MUTANT_… switches take one safety measure away.
 */
#include "generated/secret.pml"
#include "promises.pml"

/* The file is there at first; each second change brings it back, so that there are no more instances than this. */
#define LIVES (CHANGES / 2 + 1)

typedef Secret { byte state };
Secret secret[LIVES];         /* the log's, in the order of their first records */
byte begun;
bool file = true;
bool up, looking, seen;       /* lost in a crash */
byte shown;                   /* the instance whose authority an act that is under way has, counted from 1; 0: none is */
byte changes, crashes;

#define HELD (begun > 0 && secret[begun - 1].state == STATE_present)

/* Append one record of instance i. */
byte target;
inline record_secret(i, event_) {
  TAKE(ASK(ROW, secret[i], event_, 0));
  target = ASK(NEXT, secret[i], event_, 0);
  TELL4(hold_, secret[i].state, event_, target, i);
  PROMISE(declared_only, target != STATE_none);
  PROMISE(removed_absorbs, secret[i].state != STATE_removed);
  secret[i].state = target; target = 0
}

/* A look compares what it sees with what the log holds, and records the difference. So does a start, before it takes work. */
#ifdef MUTANT_start_records_nothing
#define RECORDS up
#else
#define RECORDS true
#endif
#define MISSING (RECORDS && seen && !HELD)
#ifdef MUTANT_removal_unrecorded
#define GONE false
#else
#define GONE (RECORDS && !seen && HELD)
#endif
#ifdef MUTANT_old_instance_again
#define FRESH (begun == 0)
#else
#define FRESH true
#endif
proctype Server() {
  do
  :: d_step { !looking -> looking = true; seen = file; TELL2(look_, seen, 0) }
  :: d_step { looking && MISSING -> if :: FRESH -> begun++ :: else fi; record_secret(begun - 1, EVENT_add) }
  :: d_step { looking && GONE -> record_secret(begun - 1, EVENT_remove) }
  :: d_step { looking && !MISSING && !GONE ->
       TELL2(compared, HELD, 0);
       PROMISE(secrets_recorded, HELD == seen);
       looking = false; seen = false; up = true }
  od
}

/* Somebody shows the secret and acts. The act is recorded later, under the condition that the instance has not ended. */
#ifdef MUTANT_act_unconditional
#define MAY_ACT true
#else
#ifdef MUTANT_act_of_another_life
#define MAY_ACT HELD
#else
#define MAY_ACT (secret[shown - 1].state == STATE_present)
#endif
#endif
proctype Holder() {
  do
  :: d_step { up && file && HELD && shown == 0 -> shown = begun; TELL2(show_, shown, 0) }
  :: d_step { shown > 0 && MAY_ACT ->
       TELL2(act_, shown, 0);
       PROMISE(authority_at_append, secret[shown - 1].state == STATE_present);
       shown = 0 }
  :: d_step { shown > 0 && !MAY_ACT -> TELL2(turn_down_act, shown, 0); shown = 0 }
  od
}

/* Files come and go, the server crashes, and whatever the declaration allows after an end is tried. */
#define LEFT(event) (begun > 0 && secret[begun - 1].state == STATE_removed && ASK(NEXT, secret[begun - 1], event, 0) != STATE_none)
#define AFTER_AN_END(name) :: d_step { up && LEFT(EVENT_##name) -> record_secret(begun - 1, EVENT_##name) }
proctype World() {
  do
  :: d_step { changes < CHANGES -> changes++; file = !file; TELL2(file_, file, 0) }
  :: d_step { up && crashes < CRASHES -> crashes++; up = false; looking = false; seen = false; shown = 0; TELL2(kill_, 0, 0) }
  EVENTS(AFTER_AN_END)
  od
}

init { atomic { run Server(); run Holder(); run World() } }
