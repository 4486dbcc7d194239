"""What to send to one webhook, and when: decided here, without network, storage or clock.

Messages of one session are sent in order, each after the one before it was delivered or given up. A session whose messages fail
holds up no other. What fails is repeated after ever longer delays, over three days, and then becomes a dead letter.

The log itself is the queue: it is read as far as there is room. What can't be delivered while later messages can is *put
aside*: stored with its attempts, so that the cursor can pass it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

RETRIES_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The delays after each failed attempt, in seconds: the example schedule of Standard Webhooks, three days in all."""

WINDOW: Final = 256
"""Messages that may wait in memory beyond the cursor."""
ASIDE: Final = 10_000
"""Messages that may be put aside. Beyond that, the log is not read on until some are delivered or given up."""
AT_ONCE: Final = 8
"""Messages under way at a time."""
_OUTAGE: Final = 5
"""If messages of so many sessions fail and none is delivered, the webhook is down: one attempt at a time, with pauses."""
_BREATH_MS: Final = 1_000
_LONGEST_PAUSE_MS: Final = 300_000
_SHORTEST_PAUSE_MS: Final = 5_000
_BUSY: Final = frozenset({429, 502, 503, 504})
"""Answers that ask for fewer requests, whatever they contain."""
_GONE: Final = 410
_MS_PER_S: Final = 1000


class Pending(msgspec.Struct):
    """A message that is not delivered yet. ``key`` is what it is in order with: its session, or another instance.

    ``first_at_ms`` and ``last_at_ms`` are the times of its first and last attempt, 0 before; ``because`` is why the last one
    failed. ``aside``: it is stored.
    """

    position: int
    key: str
    attempts: int = 0
    due_ms: int = 0
    first_at_ms: int = 0
    last_at_ms: int = 0
    because: str = ""
    aside: bool = False


class Failure(msgspec.Struct, frozen=True):
    """A failed attempt. ``status`` is None without an answer; ``retry_after_ms`` is what the answer asked for."""

    because: str
    status: int | None = None
    retry_after_ms: int | None = None


class Changes(msgspec.Struct):
    """What is to be stored, in one transaction: messages put aside or tried again, those delivered, and new dead letters."""

    aside: dict[int, Pending] = {}
    delivered: set[int] = set()
    dead: dict[int, Pending] = {}


class Deliveries:
    """The messages for one webhook: those after ``cursor``, and those put ``aside`` before.

    ``jitter`` returns a random factor around 1. ``disabled``: why nothing is sent any more, None while it is.
    """

    def __init__(self, cursor: int, aside: Iterable[Pending], jitter: Callable[[], float]) -> None:
        self.disabled: str | None = None
        self.last_success_ms = 0
        self.because: str | None = None
        """Why the last attempt failed; None after a success."""
        self._jitter = jitter
        # The keys whose messages failed since the last success, and the number of those failures.
        self._failing: set[str] = set()
        self._failures = 0
        self._read_to = cursor
        self._by_key: dict[str, deque[Pending]] = {}
        self._under_way: set[str] = set()
        self._ready: deque[str] = deque()
        self._delayed: list[tuple[int, str]] = []
        # Positions beyond the cursor, in order.
        self._window: dict[int, None] = {}
        self._aside = 0
        self._pause_until_ms = 0
        self._changes = Changes()
        self._restored_to = 0
        for each in sorted(aside, key=lambda each: each.position):
            self.restore(each)
            self._restored_to = each.position
            if each.attempts:
                self._failing.add(each.key)

    @property
    def cursor(self) -> int:
        """The position up to which every message is delivered, given up, or put aside."""
        return next(iter(self._window)) - 1 if self._window else self._read_to

    @property
    def read_to(self) -> int:
        """The position up to which the log has been read."""
        return self._read_to

    @property
    def room(self) -> int:
        """How many more messages may be read now."""
        return 0 if self._aside >= ASIDE else WINDOW - len(self._window)

    def in_window(self, position: int) -> bool:
        """Return whether the message at ``position`` waits and is not put aside."""
        return position in self._window

    @property
    def waiting(self) -> int:
        """The number of messages that are read and not delivered."""
        return len(self._window) + self._aside

    @property
    def is_down(self) -> bool:
        """Whether the webhook itself seems to be down."""
        return len(self._failing) >= _OUTAGE

    def read(self, position: int, key: str) -> None:
        """Add the message at ``position``, the next one of the log."""
        self._read_to = position
        behind = self._by_key.get(key, ())
        if position <= self._restored_to and any(each.position == position for each in behind):
            return  # put aside, and the cursor had not passed it when the server stopped
        self._window[position] = None
        pending = Pending(position, key)
        self._queue(pending)
        if behind and behind[0].aside:
            self._put_aside(pending)

    def pass_to(self, position: int) -> None:
        """Note that no message is left to read up to ``position``."""
        self._read_to = position

    def restore(self, pending: Pending) -> None:
        """Add a message that is stored: one put aside, or a dead letter that is replayed."""
        pending.aside = True
        self._aside += 1
        self._queue(pending)

    def next(self, now_ms: int) -> Pending | None:
        """Return a message to send now, None if there is none. Answer it with :meth:`delivered` or :meth:`failed`."""
        most = 1 if self.is_down else AT_ONCE
        if self.disabled is not None or len(self._under_way) >= most or now_ms < self._pause_until_ms:
            return None
        while (key := self._take_key(now_ms)) is not None:
            queue = self._by_key.get(key)
            if queue and key not in self._under_way and queue[0].due_ms <= now_ms:
                self._under_way.add(key)
                return queue[0]
        return None

    def due_ms(self) -> int | None:
        """Return when :meth:`next` may return a message again although nothing else happens; None if never."""
        if self.disabled is not None or not (self._ready or self._delayed):
            return None
        return max(self._pause_until_ms, 0 if self._ready else self._delayed[0][0])

    def delivered(self, key: str, now_ms: int) -> None:
        """Note that the message of ``key`` that was under way is delivered."""
        was_down = self.is_down
        self._failing.clear()
        self._failures = 0
        self.last_success_ms, self.because = now_ms, None
        self.left_out(key)
        if was_down:
            self._hurry(now_ms)

    def left_out(self, key: str) -> None:
        """Note that the message of ``key`` that was under way needs no delivery any more."""
        pending = self._finish(key)
        if pending.aside:
            self._changes.delivered.add(pending.position)
            self._changes.aside.pop(pending.position, None)

    def failed(self, key: str, failure: Failure, now_ms: int) -> Pending | None:
        """Note that the message of ``key`` that was under way was not taken. Return it if it became a dead letter."""
        self._failing.add(key)
        self._failures += 1
        self.because = failure.because
        pending = self._by_key[key][0]
        pending.attempts += 1
        pending.first_at_ms = pending.first_at_ms or now_ms
        pending.last_at_ms = now_ms
        pending.because = failure.because
        if failure.status == _GONE:
            self.disable("it answered 410 Gone")
        self._pause(failure, now_ms)
        if pending.attempts <= len(RETRIES_S):
            self._repeat(pending, failure, now_ms)
            return None
        if self.is_down and self.last_success_ms < pending.first_at_ms:
            self.disable("nothing was delivered for three days")
        self._finish(key)
        self._changes.aside.pop(pending.position, None)
        self._changes.dead[pending.position] = pending
        return pending

    def given_back(self, key: str, now_ms: int) -> None:
        """Note that the message of ``key`` that was under way could not be sent, for a reason that lies here."""
        self._under_way.discard(key)
        self._ready.appendleft(key)
        self._pause_until_ms = max(self._pause_until_ms, now_ms + _BREATH_MS)

    def disable(self, because: str) -> None:
        """Send nothing any more."""
        self.disabled = because

    def enable(self, now_ms: int) -> None:
        """Send again, all that waits at once, and each as if for the first time."""
        self.disabled, self._failures, self._pause_until_ms = None, 0, 0
        self._failing.clear()
        for queue in self._by_key.values():
            for pending in queue:
                pending.attempts, pending.first_at_ms = 0, 0
        self._hurry(now_ms)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to store besides the cursor."""
        return bool(self._changes.aside or self._changes.delivered or self._changes.dead)

    def take_changes(self) -> Changes:
        """Return what is to be stored since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def return_changes(self, changes: Changes) -> None:
        """Take back ``changes``, which may not have been stored. To store them twice does no harm."""
        newer = self._changes
        settled = newer.delivered | newer.dead.keys()
        aside = {position: each for position, each in changes.aside.items() if position not in settled}
        self._changes = Changes(aside | newer.aside, changes.delivered | newer.delivered, changes.dead | newer.dead)

    def _take_key(self, now_ms: int) -> str | None:
        """Take a key whose first message may be due. Repeated ones go first, or nothing old would ever be given up."""
        if self._delayed and self._delayed[0][0] <= now_ms:
            return heapq.heappop(self._delayed)[1]
        return self._ready.popleft() if self._ready else None

    def _queue(self, pending: Pending) -> None:
        queue = self._by_key.setdefault(pending.key, deque())
        if queue and pending.position < queue[-1].position:
            # A replayed one: before those that came later, and not before what is under way.
            after = [each for each in queue if each.position < pending.position]
            first = max(len(after), 1 if pending.key in self._under_way else 0)
            queue.insert(first, pending)
        else:
            queue.append(pending)
        if queue[0] is pending:
            self._wait(pending)

    def _wait(self, pending: Pending) -> None:
        """Have :meth:`next` find the first message of a key when it is due."""
        if pending.due_ms:
            heapq.heappush(self._delayed, (pending.due_ms, pending.key))
        else:
            self._ready.append(pending.key)

    def _finish(self, key: str) -> Pending:
        """Remove the message of ``key`` that was under way, and have the next one follow."""
        self._under_way.discard(key)
        queue = self._by_key[key]
        pending = queue.popleft()
        if pending.aside:
            self._aside -= 1
        else:
            del self._window[pending.position]
        if queue:
            self._wait(queue[0])
        else:
            del self._by_key[key]
        return pending

    def _repeat(self, pending: Pending, failure: Failure, now_ms: int) -> None:
        self._under_way.discard(pending.key)
        delay_ms = RETRIES_S[pending.attempts - 1] * _MS_PER_S * self._jitter()
        pending.due_ms = now_ms + max(round(delay_ms), failure.retry_after_ms or 0)
        for each in self._by_key[pending.key]:
            self._put_aside(each)
        self._wait(pending)

    def _put_aside(self, pending: Pending) -> None:
        self._changes.aside[pending.position] = pending
        if not pending.aside:
            pending.aside = True
            self._aside += 1
            del self._window[pending.position]

    def _pause(self, failure: Failure, now_ms: int) -> None:
        asked_ms = pause_ms = 0
        if failure.status in _BUSY:
            pause_ms, asked_ms = _SHORTEST_PAUSE_MS, failure.retry_after_ms or 0
        if self.is_down:
            longer = max(0, min(self._failures - _OUTAGE, 10))
            pause_ms = min(_SHORTEST_PAUSE_MS << longer, _LONGEST_PAUSE_MS)
        pause_ms = max(round(pause_ms * self._jitter()), asked_ms)
        self._pause_until_ms = max(self._pause_until_ms, now_ms + pause_ms)

    def _hurry(self, now_ms: int) -> None:
        """Send at once what waits, because it failed for a reason that is over."""
        self._delayed.clear()
        self._ready.clear()
        for key, queue in self._by_key.items():
            queue[0].due_ms = min(queue[0].due_ms, now_ms)
            if key not in self._under_way:
                self._ready.append(key)
