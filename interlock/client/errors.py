"""What the client raises. Only :class:`SessionOver` means that the user has to log in again."""

from __future__ import annotations

from interlock.client.words import End, Problem
from interlock.machine.errors import InterlockError


class Refused(InterlockError):
    """The server refused a call. ``problem`` says why, and ``problem.recovery`` what to do."""

    def __init__(self, problem: Problem, retry_after_s: int | None = None) -> None:
        self.problem = problem
        self.retry_after_s = retry_after_s
        super().__init__(f"{problem.name}: {problem.detail or problem.title}")


class Unavailable(InterlockError):
    """No answer that can be relied on: try again later. The session goes on."""

    def __init__(self, text: str, retry_after_s: int | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(text)


class NetworkFailed(Unavailable):
    """The server can't be reached, or the connection broke before the response."""


class ServerFailed(Unavailable):
    """The server, or a proxy before it, answered that it can't answer: a 5xx, or something that is no problem document."""

    def __init__(self, status: int, retry_after_s: int | None = None) -> None:
        self.status = status
        super().__init__(f"the server answered with status {status}", retry_after_s)


class SessionOver(InterlockError):
    """The session has ended. ``end`` says why."""

    def __init__(self, end: End) -> None:
        self.end = end
        super().__init__(f"the session is over: {end.reason}")


class ConnectionStopped(InterlockError):
    """The client does not reconnect by itself: it was asked not to, or the close ``code`` asks for somebody."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"the connection has stopped: {code} {reason}")
