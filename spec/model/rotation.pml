/* Refresh tokens of one session: two tabs that share a cookie jar, a thief who copied a token, a network that loses and repeats.
 *
 * One server step decides and records, as lifecycle.pml shows that the door does. The rules are machine.session's
 * `rotation_current` and `rotation_standing`, and server.runtime.sessions.Sessions.refresh.
 */
#include "session.pml"
#include "promises.pml"

#define TABS 2
#define THIEF 2

/* The session as recorded. `recent`: the grace of the rotation before the current one still runs. */
byte epoch, current;
bool recent, revoked;

typedef Token { bool there; byte epoch; byte nth };
Token jar;               /* what the browser holds */
Token request[3];        /* under way to the server, from each tab and the thief */
Token reply[3];          /* under way back */
Token stolen;

bool thief_acted;        /* a stolen token has reached the server */

#define SAME(token) (token.epoch == epoch && token.nth == current)
#define BEFORE(token) (token.epoch == epoch && token.nth + 1 == current)

inline set(to, epoch_, rotation_) { to.there = true; to.epoch = epoch_; to.nth = rotation_ }
inline unset(token) { token.there = false; token.epoch = 0; token.nth = 0 }

#ifdef MUTANT_epoch_ignored
#define CURRENT(token) (token.nth == current)
#else
#define CURRENT(token) SAME(token)
#endif
#ifdef MUTANT_no_grace
#define REPEATED(token) false
#else
#ifdef MUTANT_old_rotation_accepted
#define REPEATED(token) (token.epoch == epoch && token.nth < current)
#else
#define REPEATED(token) (BEFORE(token) && recent)
#endif
#endif
byte living;              /* whichever state the session is in while it lives */
#define STATE (revoked -> STATE_expired : living)
#define ACCEPTED(token) (NEXT(STATE, EVENT_refresh, true, true, true, true, true, CURRENT(token)) != STATE_none)

/* The server answers the token that party `who` presents. */
inline serve(who) {
  thief_acted = thief_acted || who == THIEF;
  if
  :: ACCEPTED(request[who]) ->
       TELL4(exchange, who, request[who].epoch, request[who].nth, current);
       PROMISE(rotation, SAME(request[who]) && !revoked);
       current++; recent = true;
       set(reply[who], epoch, current)
  :: !ACCEPTED(request[who]) && !revoked && REPEATED(request[who]) ->
       TELL4(answer_again, who, request[who].epoch, request[who].nth, current);
       PROMISE(rotation, BEFORE(request[who]) && recent);
#ifdef MUTANT_repeat_rotates
       current++;
#endif
       set(reply[who], epoch, current)
  :: !ACCEPTED(request[who]) && !revoked && !REPEATED(request[who]) && request[who].epoch == epoch && request[who].nth < current ->
       TELL4(reuse, who, request[who].epoch, request[who].nth, current);
       /* An honest browser alone never gets here. */
       PROMISE(rotation, thief_acted);
       revoked = true
  :: else ->
       TELL4(turn_down, who, request[who].epoch, request[who].nth, current)
  fi
}

/* A tab sends what the jar holds; its request may arrive, arrive twice, or be lost; so may the answer. Assumed: neither
 * request nor answer is under way for as long as an access token lives, so that none is overtaken by two exchanges. */
#define OUTDATED(token) (token.there && (token.epoch < jar.epoch || token.nth < jar.nth))
proctype Tab(byte who) {
  do
  :: atomic { !revoked && jar.there && !request[who].there && !reply[who].there && current < ROTATIONS &&
             !OUTDATED(request[1 - who]) && !OUTDATED(reply[1 - who]) ->
       set(request[who], jar.epoch, jar.nth); TELL2(send, who, jar.nth) }
  :: atomic { request[who].there -> serve(who); if :: unset(request[who]) :: true fi }
  :: atomic { request[who].there -> TELL2(lose, who, 0); unset(request[who]) }
  :: atomic { reply[who].there ->
       /* A cookie is simply set: the last answer to arrive is what the jar holds. */
       set(jar, reply[who].epoch, reply[who].nth);
       TELL2(receive, who, reply[who].nth);
       unset(reply[who]) }
  :: atomic { reply[who].there -> TELL2(lose, who, 1); unset(reply[who]) }
  od
}

/* The thief copies the jar at any time, once, and sends the copy at any time, as often as they like; then what they get for it. */
proctype Thief() {
  do
  :: atomic { jar.there && !stolen.there -> set(stolen, jar.epoch, jar.nth); TELL2(steal, THIEF, jar.nth) }
  :: atomic { stolen.there && !request[THIEF].there && current < ROTATIONS -> set(request[THIEF], stolen.epoch, stolen.nth) }
  :: atomic { request[THIEF].there -> serve(THIEF); unset(request[THIEF]) }
  :: atomic { reply[THIEF].there ->
       set(stolen, reply[THIEF].epoch, reply[THIEF].nth); TELL2(receive, THIEF, stolen.nth); unset(reply[THIEF]) }
  od
}

/* Somebody logs in, again: the epoch rises, and what was issued before opens nothing. */
proctype Login() {
  do
  :: atomic { !revoked && epoch < EPOCHS -> epoch++; recent = false; set(jar, epoch, current); TELL2(login, epoch, current) }
  :: break
  od
}

/* The grace passes. Assumed of honest browsers: not while one still holds, or has under way, the token before. */
#define BEHIND(token) (token.there && BEFORE(token))
#define HONEST_BEHIND (BEHIND(jar) || BEHIND(request[0]) || BEHIND(request[1]) || BEHIND(reply[0]) || BEHIND(reply[1]))
proctype Grace() {
  do
  :: atomic { recent && (thief_acted || !HONEST_BEHIND) -> recent = false; TELL2(grace_ends, current, 0) }
  od
}

init {
  atomic {
    if :: living = STATE_created :: living = STATE_authenticated :: living = STATE_connected fi;
    set(jar, 0, 0);
    run Tab(0); run Tab(1); run Login(); run Grace();
#ifndef WITHOUT_THIEF
    run Thief()
#endif
  }
}
