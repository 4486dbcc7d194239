"""``interlock serve`` with plausible faults: the failing code holds a secret, and reveals it.

A password containing ``explode`` makes its hashing fail, and such a ticket its redemption, with the secret in the error's
message, in the variables of the frames it passes, and in the arguments of a callback that fails on the event loop. Such a
WebSocket message makes its reading fail.
"""

from __future__ import annotations

import asyncio
from typing import Any

from interlock.machine.session.conversation import Conversation
from interlock.server.guard.passwords.hashing import Passwords
from interlock.server.guard.tickets import Tickets


def _fail(secret: str) -> None:
    raise ValueError(f"could not take {secret!r}")


def _failing(what: Any, position: int) -> Any:
    async def call(*arguments: Any, **named: Any) -> Any:
        secret = arguments[position]
        if "explode" not in secret:
            return await what(*arguments, **named)
        asyncio.get_running_loop().call_soon(_fail, secret)
        forgotten = asyncio.get_running_loop().create_future()
        forgotten.set_exception(KeyError(secret))
        try:
            _fail(secret)
        except ValueError as error:
            raise RuntimeError(secret, arguments) from error

    return call


def _failing_at_once(what: Any, position: int) -> Any:
    def call(*arguments: Any) -> Any:
        if "explode" in arguments[position]:
            _fail(arguments[position])
        return what(*arguments)

    return call


def put_in() -> None:
    """Put the faults in."""
    Conversation.receive_text = _failing_at_once(Conversation.receive_text, 1)  # type: ignore[method-assign]  # a fault that is put in
    Passwords.verify = _failing(Passwords.verify, 2)  # type: ignore[method-assign]  # a fault that is put in
    Tickets.redeem = _failing(Tickets.redeem, 1)  # type: ignore[method-assign]  # a fault that is put in
