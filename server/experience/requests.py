"""The request class of every endpoint: a body is JSON and says so, or it is not read."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException

from server.experience.problems import RequestRefused
from server.guard.jose import unambiguous_json

_decoder: Final = msgspec.json.Decoder()
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
        body = await super().body()
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
        try:
            value = _decoder.decode(body)
            unambiguous_json(body)
        except RecursionError:
            raise RequestRefused(400, "the JSON is nested too deeply") from None
        except ValueError:  # of which msgspec's and Unicode's errors are kinds
            raise RequestRefused(400, "the body is not JSON, or names a key twice") from None
        field = self.route_handler.parsed_data_field
        # Here, because Litestar reads a body as leniently as a query: the text "null" is null to it, and "1" a number.
        return value if field is None else _converted(value, field.annotation)


def _converted(value: Any, kind: Any) -> Any:
    """``value`` as a ``kind``; what it should have been is said as Litestar says it.

    Raises:
        ValidationException: it is none.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        wanted, _, where = str(error).partition(" - ")
        if wanted.startswith(_UNKNOWN_FIELD):
            # Its name is the client's: it may look like anything, and be a secret in the wrong place.
            wanted, where = "Object contains an unknown field", ""
        place = _PLACE.search(where)
        row = {"message": wanted, "key": place[1] if place else "data", "source": "body"}
        raise ValidationException("Validation failed", extra=[row]) from None
