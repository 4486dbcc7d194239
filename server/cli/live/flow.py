"""What happens in a log, kept up to date record by record."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from interlock.machine.ledger import Record
from interlock.machine.machines import MACHINES
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.times import rfc3339

if TYPE_CHECKING:
    from interlock.server.surface.sqlite.observer import Observer

_WINDOW_MS: Final = 10_000
_AT_START: Final = 5_000
"""How many records are read at the start to know what happened in the last seconds."""
_PAGE: Final = 5_000
_ENDS: Final = 8


class Ended(msgspec.Struct, frozen=True):
    """The end of a session."""

    at: str
    session_id: str
    reason: str


class Picture(msgspec.Struct, frozen=True):
    """A log at one moment.

    ``counts``: instances by kind and state. ``per_second``: recorded transitions by kind and event, in the last ten seconds.
    ``sockets``: open WebSockets, as recorded. ``ends``: the newest ones.
    """

    at: str
    position: int
    counts: dict[str, dict[str, int]]
    per_second: dict[str, float]
    sockets: int
    ends: list[Ended]


class Flow:
    """Follows a log. Counts are read from an index once, and then kept by what each record changes."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._recent: deque[tuple[int, str]] = deque()
        self._position, counts = observer.counts()
        self._counts = Counter(counts)
        self._note(observer.after(max(self._position - _AT_START, 0), min(_AT_START, self._position)))

    def look(self, now_ms: int) -> Picture:
        """Read what is new, and return the log as of ``now_ms``."""
        while page := self._observer.after(self._position, _PAGE):
            self._note(page)
            for record in page:
                step = record.transition
                self._counts[step.kind, step.target] += 1
                if step.source is not None:
                    self._counts[step.kind, step.source] -= 1
            self._position = page[-1].position
        while self._recent and self._recent[0][0] <= now_ms - _WINDOW_MS:
            self._recent.popleft()
        counted = Counter(what for _, what in self._recent)
        return Picture(
            rfc3339(now_ms),
            self._position,
            {m.kind: {s.name: self._counts[m.kind, s.name] for s in m.lifecycle.states} for m in MACHINES},
            {what: count * 1000 / _WINDOW_MS for what, count in counted.most_common()},
            self._observer.sockets(),
            self._ends(),
        )

    def _note(self, records: Iterable[Record]) -> None:
        self._recent.extend(
            (each.transition.at_ms, f"{each.transition.kind} {each.transition.event}") for each in records
        )

    def _ends(self) -> list[Ended]:
        from interlock.server.surface.directory import InstanceFilter

        (final,) = SESSION_MACHINE.final
        newest: list[Any] = self._observer.page(SESSION_MACHINE, InstanceFilter(final, updated_from_ms=0), None, _ENDS)
        return [Ended(rfc3339(each.updated_at_ms), each.session_id, each.reason or "") for each in newest]
