/* Refresh tokens of one session: tabs that share a cookie jar, a thief who copied a token, and a network that loses, repeats and
 * delays messages.
 *
 * One server step decides and records, as lifecycle.pml shows for the door. The rules are those of
 * interlock.machine.session.refresh_tokens and interlock.server.runtime.sessions.Sessions.refresh. Time is the order in which the
 * graces of issued tokens end.
 */
#include "generated/session.pml"
#include "promises.pml"

#define THIEF 3
#define NEVER 254
#define GONE 255

/* The recorded session: the newest token, and for each issued one: whether its own grace still runs; the first token that was
 * returned for it (NEVER: it was not presented); the token whose grace ends it (NEVER: none does; GONE: it has ended, or was
 * not issued). */
byte epoch, current;
bool revoked;
bool fresh[ROTATIONS + 1];
byte answer[ROTATIONS + 1], until[ROTATIONS + 1];
byte running;            /* the number of graces that run */

/* `since`: the oldest token whose answer had not arrived when this was sent. */
typedef Token { bool there; byte epoch; byte nth; byte since };
Token jar;               /* what the browser holds */
Token request[4];        /* under way to the server, from each tab and the thief */
Token reply[4];          /* under way back */
Token stolen;

bool thief_acted;        /* a stolen token has reached the server */
byte quiet;              /* the owner's exchanges since the theft, each of a different token and while no grace ran */

#define OF_NOW(token) (token.epoch == epoch && token.nth <= current)
#define HONOURED(token) (OF_NOW(token) && until[token.nth] != GONE)

#ifdef MUTANT_epoch_ignored
#define CLAIM(token) (token.nth <= current && until[token.nth] != GONE)
#else
#ifdef MUTANT_one_before
#define CLAIM(token) (HONOURED(token) && token.nth + 1 >= current)
#else
#ifdef MUTANT_lost_answer_is_theft
#define CLAIM(token) (HONOURED(token) && (answer[token.nth] == NEVER || fresh[answer[token.nth]]))
#else
#ifdef MUTANT_old_rotation_accepted
#define CLAIM(token) OF_NOW(token)
#else
#define CLAIM(token) HONOURED(token)
#endif
#endif
#endif
#endif
/* In any state of a live session. */
#define ACCEPTED_IN(state, token) (NEXT(state, EVENT_refresh, true, true, true, true, true, CLAIM(token)) != STATE_none)
#define ACCEPTED(token) \
  (revoked -> ACCEPTED_IN(STATE_expired, token) : \
   (ACCEPTED_IN(STATE_created, token) || ACCEPTED_IN(STATE_authenticated, token) || ACCEPTED_IN(STATE_connected, token)))

inline set(to, epoch_, rotation_) { to.there = true; to.epoch = epoch_; to.nth = rotation_ }
inline unset(token) { token.there = false; token.epoch = 0; token.nth = 0; token.since = 0 }

inline issue() { fresh[current] = true; running++; answer[current] = NEVER; until[current] = NEVER }

/* Exchange the presented token `k`, and end the tokens that the jar can't hold any more. */
#ifdef MUTANT_late_answer_is_theft
#define UNDER_WAY(j, k) (fresh[j] && j > k)
#else
#ifdef MUTANT_used_is_gone
#define UNDER_WAY(j, k) (fresh[j] && (j > k || answer[j] == NEVER))
#else
#define UNDER_WAY(j, k) (fresh[j] && answer[j] > k)
#endif
#endif
inline exchange_(k) {
  for (j : 0 .. ROTATIONS) {
    if
    :: j > current || j == k || until[j] == GONE || UNDER_WAY(j, k)
#ifdef MUTANT_copy_kept
    :: j > k && j <= current
#endif
    :: else ->
#ifdef MUTANT_no_grace
         until[j] = GONE
#else
         if
         :: fresh[k] -> if :: until[j] > k -> until[j] = k :: else fi
         :: else -> until[j] = GONE
         fi
#endif
    fi
  }
  current++;
  if :: answer[k] == NEVER -> answer[k] = current :: else fi;
  issue()
}

/* Answer the token that party `who` presents. */
inline serve(who) {
  thief_acted = thief_acted || who == THIEF;
  if
#ifdef MUTANT_same_answer_again
  :: ACCEPTED(request[who]) && request[who].nth != current ->
       TELL4(answer_again, who, request[who].epoch, request[who].nth, current);
       set(reply[who], epoch, current)
  :: ACCEPTED(request[who]) && request[who].nth == current ->
#else
  :: ACCEPTED(request[who]) ->
#endif
       if
       :: request[who].nth == current -> TELL4(exchange, who, request[who].epoch, request[who].nth, current)
       :: else -> TELL4(answer_again, who, request[who].epoch, request[who].nth, current)
       fi;
       PROMISE(rotation, OF_NOW(request[who]) && !revoked);
       if
       :: who != THIEF && stolen.there && quiet < 2 && running == 0 && answer[request[who].nth] == NEVER -> quiet++
       :: else
       fi;
       exchange_(request[who].nth);
       set(reply[who], epoch, current);
       /* After two exchanges of the owner, the copy opens nothing. */
       PROMISE(rotation, quiet < 2 || !ACCEPTED(stolen))
  :: !ACCEPTED(request[who]) && !revoked && OF_NOW(request[who]) ->
       TELL4(reuse, who, request[who].epoch, request[who].nth, current);
       /* Without a thief this is never reached. */
       PROMISE(rotation, thief_acted);
       revoked = true
  :: else ->
       TELL4(turn_down, who, request[who].epoch, request[who].nth, current)
  fi
}
#define ROOM(who) (current < ROTATIONS || !ACCEPTED(request[who]))

inline waits_for(token, nth_) { if :: token.there && token.epoch == epoch && token.nth < nth_ -> nth_ = token.nth :: else fi }

/* A tab sends what the jar holds, whatever else is under way. The request may arrive or be lost, and so may the answer. A message
 * that the network repeats is equivalent to another tab's. Waiting tabs are symmetric, so the first of them sends. */
#define BUSY(who) (request[who].there || reply[who].there)
#define NEXT_TO_SEND(who) (!BUSY(who) && (who == 0 || BUSY(0)) && (who < 2 || BUSY(1)))
proctype Tab(byte who) {
  byte j;
  do
  :: atomic { !revoked && jar.there && NEXT_TO_SEND(who) && current < ROTATIONS ->
       set(request[who], jar.epoch, jar.nth);
       j = current + 1;
       waits_for(reply[0], j); waits_for(reply[1], j); waits_for(reply[2], j);
       request[who].since = j; j = 0;
       TELL2(send, who, jar.nth) }
  :: atomic { request[who].there && ROOM(who) -> serve(who); j = 0; unset(request[who]) }
  :: atomic { request[who].there -> TELL2(lose, who, 0); unset(request[who]) }
  :: atomic { reply[who].there ->
       /* The jar holds the last answer to arrive. */
       set(jar, reply[who].epoch, reply[who].nth);
       TELL2(receive, who, reply[who].nth);
       unset(reply[who]) }
  :: atomic { reply[who].there -> TELL2(lose, who, 1); unset(reply[who]) }
  od
}

/* The thief copies the jar once, at any time, and sends the copy at any time and any number of times, then the tokens returned
 * for it. The thief sees every step of the owner. */
proctype Thief() {
  byte j;
  do
  :: atomic { jar.there && !stolen.there -> set(stolen, jar.epoch, jar.nth); TELL2(steal, THIEF, jar.nth) }
  :: atomic { stolen.there && !revoked && !request[THIEF].there && current < ROTATIONS ->
       set(request[THIEF], stolen.epoch, stolen.nth) }
  :: atomic { request[THIEF].there && ROOM(THIEF) -> serve(THIEF); j = 0; unset(request[THIEF]) }
  :: atomic { reply[THIEF].there ->
       set(stolen, reply[THIEF].epoch, reply[THIEF].nth); TELL2(receive, THIEF, stolen.nth); unset(reply[THIEF]) }
  :: atomic { reply[THIEF].there -> unset(reply[THIEF]) }
  od
}

/* A user logs in again: the epoch rises, and earlier tokens open nothing. */
proctype Login() {
  byte j;
  do
  :: atomic { !revoked && epoch < EPOCHS ->
       epoch++;
       for (j : 0 .. ROTATIONS) { fresh[j] = false; answer[j] = NEVER; until[j] = GONE }
       j = 0; running = 0;
       issue();
       set(jar, epoch, current); TELL2(login, epoch, current) }
  :: break
  od
}

/* Graces end in the order in which the tokens were issued. Assumption about honest browsers and their network: a grace does not
 * end while the answer with its token is under way, nor a request that was sent before that answer arrived. */
#define ANSWERING(token, nth_) (token.there && token.epoch == epoch && token.nth <= nth_)
#define ASKING(token, nth_) (token.there && token.epoch == epoch && token.since <= nth_)
#define HONEST_UNDER_WAY(nth_) \
  (ANSWERING(reply[0], nth_) || ANSWERING(reply[1], nth_) || ANSWERING(reply[2], nth_) || \
   ASKING(request[0], nth_) || ASKING(request[1], nth_) || ASKING(request[2], nth_))
proctype Grace() {
  byte f, j;
  do
  :: atomic { !revoked ->
       f = 0;
       do
       :: f < current && !fresh[f] -> f++
       :: else -> break
       od;
       if
       :: fresh[f] && !HONEST_UNDER_WAY(f) ->
            fresh[f] = false; running--;
            for (j : 0 .. ROTATIONS) { if :: until[j] == f -> until[j] = GONE :: else fi }
            TELL2(grace_ends, f, 0)
       :: else
       fi;
       f = 0; j = 0 }
  od
}

init {
  byte j;
  atomic {
    for (j : 0 .. ROTATIONS) { answer[j] = NEVER; until[j] = GONE }
    j = 0;
    issue();
    set(jar, 0, 0);
    run Tab(0); run Tab(1); run Login(); run Grace();
#if TABS > 2
    run Tab(2);
#endif
#ifdef WITH_THIEF
    run Thief()
#endif
  }
}
