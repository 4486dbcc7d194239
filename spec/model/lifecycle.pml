/* The whole system around one session: two nodes on one durable log, any client, crashes, drops and the clock.
 *
 * The relation NEXT comes from spec/generated/session.pml, so from the declaration alone. This file models what the declaration
 * does not say: each node's view of the log, when commands are acknowledged, which sockets are open. Read it beside
 * server/runtime/door.py, server/experience/websocket.py (sockets) and server/runtime/recovery.py. spec/README.md says what is
 * left out.
 *
 * Every step of a task is one atomic block; between any two of them another task may run, or the node may crash. A crash loses
 * a node's variables but not the log's. Each MUTANT_… switch removes one safety measure, for spec/model/mutants/.
 */
#include "generated/session.pml"
#include "promises.pml"

#ifdef TRACE
/* Real sessions are longer and hold more connections than the search can afford. */
#define NUMBER short
#define SET int
#define CONNECTION_LIMIT header
#define COUNT(set) (COUNT4(set) + COUNT4((set) >> 4) + COUNT4((set) >> 8) + COUNT4((set) >> 12))
#else
#define NUMBER byte
#define SET byte
#define COUNT(set) COUNT4(set)
#endif
#define BIT(tab) (1 << (tab))
#define HAS(set, tab) (((set) >> (tab)) & 1)
#define COUNT4(set) (((set) & 1) + (((set) >> 1) & 1) + (((set) >> 2) & 1) + (((set) >> 3) & 1))
#define OWNED(fold) (fold.own[0] | fold.own[1])
#define ABOUT_CONNECTION(event) ((event) == EVENT_connect || (event) == EVENT_disconnect)
/* An overdue session refuses everything but its own end and a disconnect. */
#define NEEDS_LIFE(event, target) ((target) != STATE_expired && (event) != EVENT_create && (event) != EVENT_disconnect)

/* The session after a prefix of the log. `left` counts the deadlines ahead: each renewal adds a later one, and the clock passes
 * the earliest. The session is alive while one is left, even if it was revoked. */
typedef Fold {
  byte state;
  SET own[2];     /* the connections that node 0 and node 1 hold, a bit each */
  byte left;
  bool proved     /* a user has logged in */
};

/* The durable log. `durable` is its fold, like the projection row. `recorded` is the unique index over command ids; id 0 stands
 * for all commands that are sent only once. */
NUMBER version;
Fold durable;
NUMBER recorded[COMMANDS + 1];

/* The volatile state of one node. `cache` is the fold at version `view`. */
typedef Node {
  bool up;
  NUMBER view;
  Fold cache;
  SET open;         /* open sockets */
  SET gone;         /* connections of this node without a socket, to be disconnected */
  byte at;          /* the door's next step, and its command: */
  byte event;
  byte tab;
  byte command;
  byte target;
  NUMBER recorded_at
};
Node node[2];
#define IDLE 0
#define DECIDED 1
#define APPENDED 2

bool end_acknowledged;  /* the session's end was acknowledged to a caller */
bool answered;          /* command 1 has been acknowledged or refused */

/* The declaration's guards, over a fold. `claim`: the client authenticates as the same subject, or holds the current refresh
 * token. Both values are tried; rotation.pml models refresh tokens in detail. */
#define GUARD_alive(fold, tab, claim, is_alive) is_alive
#define GUARD_same_subject(fold, tab, claim, is_alive) claim
#define GUARD_below_connection_limit(fold, tab, claim, is_alive) (COUNT(OWNED(fold)) < CONNECTION_LIMIT)
#define GUARD_known_connection(fold, tab, claim, is_alive) HAS(OWNED(fold), tab)
#define GUARD_last_connection(fold, tab, claim, is_alive) (COUNT(OWNED(fold)) == 1)
#define GUARD_rotation_honoured(fold, tab, claim, is_alive) claim
#define TARGET(fold, event, tab, claim, is_alive) ASK(NEXT, fold, event, tab, claim, is_alive)

#include "log.pml"
#include "door.pml"
#ifdef TRACE
#include "trace.pml"
#else
#include "world.pml"
#endif
