"""The request class of every endpoint: a body is JSON and says so, or it is not read."""

from __future__ import annotations

from typing import Any

from litestar import Request

from server.experience.problems import RequestRefused


class JsonRequest(Request[Any, Any, Any]):
    """A request whose body counts only as ``application/json``.

    Any page may send a form or plain text across origins without asking first (CORS preflight), and a form can be made to
    look like JSON; ``application/json`` it can't send (ASVS 3.5.2).
    """

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            RequestRefused: the Content-Type is not application/json.
        """
        if self.content_type[0] != "application/json":
            raise RequestRefused(415, "send Content-Type: application/json")
        return await super().json()
