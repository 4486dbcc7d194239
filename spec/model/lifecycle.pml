/* The whole system around one session: two nodes on one durable log, any client, crashes, drops and the clock.
 *
 * The relation NEXT comes from spec/generated/session.pml, so from the declaration alone. What stands here is everything the
 * declaration does not say: who holds which view of the log, what is acknowledged when, which sockets are open. Read it
 * beside server/runtime/sessions.py (the door), server/experience/websocket.py (sockets) and server/runtime/recovery.py.
 * spec/README.md says what is left out.
 *
 * Every step of a task is one atomic block; between any two of them another task may run, or the node may crash. A node's
 * variables are lost with it; the log's are not. MUTANT_… switches take one safety measure away, for spec/model/mutants.py.
 */
#include "generated/session.pml"
#include "promises.pml"

#ifdef TRACE
/* A server's sessions live longer and hold more connections than the search can afford. */
#define NUMBER short
#define SET int
#define CONNECTION_LIMIT limit
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
/* What an overdue session refuses: everything but its own end, and that a connection is gone. */
#define NEEDS_LIFE(event, target) ((target) != STATE_expired && (event) != EVENT_create && (event) != EVENT_disconnect)

/* What a prefix of the log amounts to: the session. `left` counts the deadlines still ahead: each renewal sets a later one,
 * the clock passes the earliest. The session is alive while one is left: a revoked one may still be. */
typedef Fold {
  byte state;
  SET own[2];     /* the connections that node 0 and node 1 hold, a bit each */
  byte left;
  bool proved     /* somebody has logged in */
};

/* The durable log. `durable` is its fold, kept as the projection row is; `recorded` is the unique index over command ids,
 * where id 0 stands for every command that is never sent twice. */
NUMBER version;
Fold durable;
NUMBER recorded[COMMANDS + 1];

/* One node, all of it volatile. `view` is the version that `cache` is the fold of. */
typedef Node {
  bool up;
  NUMBER view;
  Fold cache;
  SET open;         /* open sockets */
  SET arriving;     /* connects acknowledged here whose socket is not registered yet */
  SET gone;         /* connections of this node without a socket: to be disconnected */
  byte at;          /* where the door stands, and with what: */
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

bool end_acknowledged;  /* somebody was told that the session has ended */
bool answered;          /* command 1 has been acknowledged or refused */

/* The declaration's guards, asked of a fold. `claim`: the client proves to be the same subject, or holds the current refresh
 * token; clients may or may not, and rotation.pml looks closer. */
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
