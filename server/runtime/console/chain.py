"""The digest chain of the log, computed again from the first record on, a little each time somebody looks."""

from __future__ import annotations

import asyncio
from typing import Final

from interlock.machine.errors import LedgerFault
from interlock.machine.ledger import EMPTY, Receipt
from interlock.server.surface.log import TransitionLog

_PIECE: Final = 256
"""Records of one read, about a millisecond of the reader's thread."""
_AT_ONCE_S: Final = 0.02
"""How long one look goes on, whatever the length of the log."""


class ChainCheck:
    """How far the chain of ``log`` was computed since the start of the server, and the fault that was found."""

    def __init__(self, log: TransitionLog) -> None:
        self.broken: str | None = None
        self._log = log
        self._last: Receipt = EMPTY
        self._turn = asyncio.Lock()

    @property
    def verified(self) -> int:
        """The position of the last record whose digest was computed again."""
        return self._last.position

    async def advance(self, newest: int) -> None:
        """Go on, at most to ``newest``, for a moment; not at all while another caller does."""
        if self._turn.locked() or self.broken is not None:
            return
        async with self._turn:
            loop = asyncio.get_running_loop()
            until_s = loop.time() + _AT_ONCE_S
            try:
                while self._last.position < newest and loop.time() < until_s:
                    self._last = await self._log.check_chain(self._last, min(_PIECE, newest - self._last.position))
            except LedgerFault as fault:
                self.broken = str(fault)
