"""The request class of every endpoint: a body is JSON and says so, or it is not read."""

from __future__ import annotations

import functools
import re
from types import NoneType
from typing import Any, Final, cast, get_args

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException

from interlock.server.experience.litestar_internals import body_type
from interlock.server.experience.problems import RequestRefused
from interlock.server.experience.transport.exchange import EXTENSION, Exchange
from interlock.server.guard.keys.jose import unambiguous_json

_UNKNOWN_FIELD: Final = "Object contains unknown field"
_CONTENT_TYPE: Final = 256
"""Characters of a Content-Type; a longer one is made of parameters that say nothing here."""
_PLACE: Final = re.compile(r"`\$\.(.+)`$")


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body counts only as ``application/json``.

    Any page may send a form or plain text across origins without asking first (CORS preflight), and a form can be made to
    look like JSON; ``application/json`` it can't send (ASVS 3.5.2). An object that names a key twice says different things
    to different readers (RFC 8259, 4), so it says nothing here.
    """

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            RequestRefused: it is compressed. No client of a few hundred bytes has reason to, and what it unpacks to is unknown.
        """
        # Whole before the application is called: Litestar's own way costs 15 µs more.
        exchange: Exchange = cast("Any", self.scope)["extensions"][EXTENSION]
        body = exchange.request.body
        if body and self.headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestRefused(415, "send the body without Content-Encoding")
        return body

    async def json(self) -> Any:
        """The decoded body, as the type that the endpoint declares.

        Raises:
            RequestRefused: the Content-Type is not application/json, or the body is not JSON.
            ValidationException: the body is JSON of another type.
        """
        if len(self.headers.get("content-type", "")) > _CONTENT_TYPE or self.content_type[0] != "application/json":
            raise RequestRefused(415, "send Content-Type: application/json")
        body = await self.body()
        declared = body_type(self)
        try:
            # Into its type at once, and not into whatever it says: some numbers take msgspec 20 µs each, and no type has any.
            # Nor as Litestar reads a body, as leniently as a query: the text "null" is null to it, and "1" a number.
            value = _decoder_for(declared).decode(body) if declared is not None else None
            unambiguous_json(body)
        except msgspec.ValidationError as error:
            raise _not_of_its_type(error) from None
        except RecursionError:
            raise RequestRefused(400, "the JSON is nested too deeply") from None
        except ValueError:  # of which msgspec's and Unicode's errors are kinds
            raise RequestRefused(400, "the body is not JSON, or names a key twice") from None
        return value


@functools.cache
def _decoder_for(kind: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of bodies of a ``kind``. An optional body may be missing, and then it is not read; null is none."""
    choices = [each for each in get_args(kind) if each is not NoneType]
    return msgspec.json.Decoder(choices[0] if choices else kind)


def _not_of_its_type(error: msgspec.ValidationError) -> ValidationException:
    """What the body should have been, said as Litestar says it."""
    wanted, _, where = str(error).partition(" - ")
    if wanted.startswith(_UNKNOWN_FIELD):
        # Its name is the client's: it may look like anything, and be a secret in the wrong place.
        wanted, where = "Object contains an unknown field", ""
    place = _PLACE.search(where)
    row = {"message": wanted, "key": place[1] if place else "data", "source": "body"}
    return ValidationException("Validation failed", extra=[row])
