"""The client's rules as a pure object: an input and the time in, outputs out. It has no clock, no randomness and no network.

It holds the tokens of one session, refreshes them in time, connects and reconnects, and knows when the session is over. What a
close code asks for is in the server's own table; what a refusal asks for, each problem document says itself.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from interlock.client.backoff import BackOff
from interlock.client.dialogue import Dialogue
from interlock.client.words import (
    CallRefused,
    CancelAsked,
    CloseSocket,
    ConnectionWanted,
    Disconnected,
    End,
    Failure,
    HandshakeFailed,
    Input,
    IntentSubmitted,
    KeepTokens,
    LoggedOut,
    OpenSocket,
    Output,
    Problem,
    Refresh,
    RefreshAnswered,
    SessionEnded,
    SocketClosed,
    SocketOpened,
    Stopped,
    TextReceived,
    Tokens,
    TokensArrived,
)
from interlock.machine.closing import CLOSE_CODES, ClientAction, Recovery

Socket: TypeAlias = Literal["closed", "opening", "open"]

_ACTIONS: Final = {row.code: row.next for row in CLOSE_CODES.values()}
_ENDED: Final = CLOSE_CODES["session_ended"]
_OVER: Final = {Recovery.LOG_IN, Recovery.START_SESSION}
"""What a refused refresh asks for if the session can't go on."""
_STEADY_MS: Final = 60_000
"""After a connection of this length, the next wait is short again."""
_EARLIEST, _SPREAD = 0.6, 0.2
"""The part of a token's life after which it is refreshed."""


class Core:
    """One session, from its first tokens on. ``chance`` is a random number from 0 to 1, new at each step."""

    def __init__(self, tokens: Tokens, now_ms: int, chance: float) -> None:
        self.end: End | None = None
        self.dialogue = Dialogue()
        self.generation = 0
        self._tokens = tokens
        self._expires_at_ms = now_ms
        self._refresh_at_ms: int | None = None
        self._stale = False
        self._out: list[Output] = []
        self._wanted = False
        self._socket: Socket = "closed"
        self._attempt_at_ms: int | None = None
        self._opened_at_ms = 0
        self._socket_token = ""
        self._between_attempts = BackOff()
        self._between_refreshes = BackOff()
        self._keep(tokens, now_ms, chance)

    @property
    def tokens(self) -> Tokens:
        """The newest tokens. After the end they are wiped."""
        return self._tokens

    @property
    def refreshing(self) -> bool:
        """Whether a refresh is under way."""
        return self._refresh_at_ms is None

    def stale(self, now_ms: int) -> bool:
        """Return whether the access token has expired, or was refused as no longer current."""
        return self._stale or now_ms >= self._expires_at_ms

    def next_wake_ms(self) -> int | None:
        """Return when a `Tick` has something to do, or None."""
        if self.end is not None:
            return None
        times = (self._refresh_at_ms, self._attempt_at_ms, self.dialogue.next_wake_ms())
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    def step(self, given: Input, now_ms: int, chance: float) -> list[Output]:
        """Take an input, and return what to do. After the end, whatever arrives late is dropped."""
        if not self._over():
            self._take(given, now_ms, chance)
        if not self._over():
            self.dialogue.tick(now_ms)
            self._out += self.dialogue.take()
            self._go_on(now_ms)
        out, self._out = self._out, []
        return out

    def _over(self) -> bool:
        return self.end is not None

    def _take(self, given: Input, now_ms: int, chance: float) -> None:
        match given:
            case TokensArrived(tokens):
                # A refresh that is under way was asked for with older tokens.
                self.generation += 1
                self._keep(tokens, now_ms, chance)
            case RefreshAnswered(generation, answer):
                if generation == self.generation:
                    self._refreshed(answer, now_ms, chance)
            case CallRefused(access_token, problem):
                self._call_refused(access_token, problem, now_ms)
            case LoggedOut():
                self._finish("logout")
            case IntentSubmitted(intent_id, name, parameters):
                self.dialogue.submit(intent_id, name, parameters)
            case CancelAsked(intent_id):
                self.dialogue.cancel(intent_id)
            case _:
                self._take_of_connection(given, now_ms, chance)

    def _take_of_connection(self, given: Input, now_ms: int, chance: float) -> None:
        match given:
            case ConnectionWanted(wanted):
                self._want(wanted=wanted, now_ms=now_ms)
            case SocketOpened():
                self._socket, self._opened_at_ms = "open", now_ms
            case HandshakeFailed(failure):
                self._refused_handshake(failure, now_ms, chance)
            case TextReceived(text):
                self.dialogue.receive(text, now_ms)
            case SocketClosed(code, reason):
                self._closed(code, reason, now_ms, chance)

    def _go_on(self, now_ms: int) -> None:
        """Start what is due: a refresh, and an attempt to connect."""
        if self._refresh_at_ms is not None and now_ms >= self._refresh_at_ms:
            self._refresh_at_ms = None
            self._out.append(Refresh(self.generation, self._tokens.refresh_token))
        if self._attempt_at_ms is None or now_ms < self._attempt_at_ms:
            return
        if self.stale(now_ms):
            # The attempt follows when the refresh is answered.
            return
        self._attempt_at_ms, self._socket = None, "opening"
        self._socket_token = self._tokens.access_token
        self._out.append(OpenSocket(self._socket_token))

    def _keep(self, tokens: Tokens, now_ms: int, chance: float) -> None:
        life_ms = tokens.expires_in * 1000
        self._tokens = tokens
        self._stale = False
        self._expires_at_ms = now_ms + life_ms
        self._refresh_at_ms = now_ms + int(life_ms * (_EARLIEST + _SPREAD * chance))
        self._out.append(KeepTokens(tokens))
        if self._socket == "open":
            self._socket_token = tokens.access_token
            self.dialogue.refresh(tokens.access_token)

    def _refreshed(self, answer: Tokens | Failure, now_ms: int, chance: float) -> None:
        if isinstance(answer, Tokens):
            self._between_refreshes.reset()
            self._keep(answer, now_ms, chance)
        elif answer.problem is not None and answer.problem.recovery in _OVER:
            self._finish(_reason_of(answer.problem))
        else:
            # Whether the server took it or not: the same token is accepted again, until an answer to it has been used.
            self._refresh_at_ms = self._between_refreshes.next_ms(now_ms, chance, answer.retry_after_ms)

    def _call_refused(self, access_token: str, problem: Problem, now_ms: int) -> None:
        if access_token != self._tokens.access_token:
            return
        if problem.recovery is Recovery.START_SESSION:
            self._finish(_reason_of(problem))
        elif problem.recovery is Recovery.REFRESH:
            self._expire(now_ms)

    def _expire(self, now_ms: int) -> None:
        """Use the access token no more, and refresh it now."""
        self._stale = True
        if self._refresh_at_ms is not None:
            self._refresh_at_ms = min(self._refresh_at_ms, now_ms)

    def _want(self, *, wanted: bool, now_ms: int) -> None:
        self._wanted = wanted
        if wanted and self._socket == "closed":
            self._attempt_at_ms = now_ms
        elif not wanted:
            self._disconnect()
            self.dialogue.give_up()

    def _disconnect(self) -> None:
        self._attempt_at_ms = None
        if self._socket != "closed":
            self._socket = "closed"
            self._out.append(CloseSocket())
        self.dialogue.lost()

    def _refused_handshake(self, failure: Failure, now_ms: int, chance: float) -> None:
        self._socket = "closed"
        if not self._wanted:
            return
        problem = failure.problem
        if problem is None or problem.recovery is Recovery.RETRY_LATER:
            self._attempt_at_ms = self._between_attempts.next_ms(now_ms, chance, failure.retry_after_ms)
        else:
            self._stop(problem.status, problem.name)

    def _closed(self, code: int, reason: str, now_ms: int, chance: float) -> None:
        if self._socket == "closed":
            return
        steady = self._socket == "open" and now_ms - self._opened_at_ms >= _STEADY_MS
        self._socket = "closed"
        self.dialogue.lost()
        if steady:
            self._between_attempts.reset()
        match _ACTIONS.get(code, ClientAction.RECONNECT):
            case ClientAction.LOG_IN | ClientAction.START_SESSION:
                self._finish(_reason_of_close(code, reason))
            case ClientAction.FIX_CLIENT | ClientAction.ASK_USER | ClientAction.NONE:
                self._stop(code, reason)
            case ClientAction.REFRESH | ClientAction.RECONNECT as action:
                if action is ClientAction.REFRESH and self._socket_token == self._tokens.access_token:
                    self._expire(now_ms)
                self._out.append(Disconnected(code, reason))
                self._attempt_at_ms = self._between_attempts.next_ms(now_ms, chance)

    def _stop(self, code: int, reason: str) -> None:
        self._wanted = False
        self.dialogue.lost()
        self.dialogue.give_up()
        self._out.append(Stopped(code, reason))

    def _finish(self, reason: str) -> None:
        """End the session here, and wipe what it held."""
        self._disconnect()
        self._out += self.dialogue.take()
        self.end = End(reason)
        self.generation += 1
        self.dialogue = Dialogue()
        self._tokens = Tokens(
            session_id=self._tokens.session_id, state="expired", access_token="", refresh_token="", expires_in=0
        )
        self._out.append(SessionEnded(self.end))


def _reason_of(problem: Problem) -> str:
    return problem.reason or problem.name


def _reason_of_close(code: int, reason: str) -> str:
    if code == _ENDED.code:
        return reason.removeprefix(_ENDED.reason.format(reason=""))
    names = {row.code: row.name for row in CLOSE_CODES.values()}
    return names[code].replace("_", "-")
