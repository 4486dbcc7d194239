"""Full jitter: a random wait below a bound that doubles with each failure."""

from __future__ import annotations

from typing import Final

_FIRST_MS: Final = 500
_LONGEST_MS: Final = 30_000


class BackOff:
    """The bound of the next wait. ``chance`` is a random number from 0 to 1."""

    def __init__(self) -> None:
        self._bound_ms = _FIRST_MS

    def next_ms(self, now_ms: int, chance: float, retry_after_ms: int = 0) -> int:
        """Return when to try again, and double the bound. What the server asks to wait comes on top."""
        at_ms = now_ms + retry_after_ms + int(chance * self._bound_ms)
        self._bound_ms = min(_LONGEST_MS, self._bound_ms * 2)
        return at_ms

    def reset(self) -> None:
        """Begin with the smallest bound again, after something that worked for a while."""
        self._bound_ms = _FIRST_MS
