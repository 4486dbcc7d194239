"""Hooks for schemathesis: every call has a fresh login, whatever sessions the calls before it ended.

Administrators' calls have their secret, except the stream, which would not end.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import httpx
import schemathesis
from schemathesis import AuthContext, Case

# Those of the document's examples, so that the examples are valid.
_CREDENTIALS = {"email": "ada@example.org", "password": "correct horse battery staple"}

_LONGEST = 512
_LIMITS = {"client_id": 64, "client_secret": 512}


@schemathesis.auth(refresh_interval=None)
class LoggedIn:
    """The tokens of a new session."""

    def __init__(self) -> None:
        self._http = httpx.Client(base_url=os.environ["INTERLOCK_URL"], timeout=30)
        self._http.post("/api/auth/register", json=_CREDENTIALS)

    def get(self, _case: Case[Any], _context: AuthContext) -> dict[str, Any]:
        answer = self._http.post("/api/auth/login", json=_CREDENTIALS)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            # The account was deleted by one of the calls.
            self._http.post("/api/auth/register", json=_CREDENTIALS)
            answer = self._http.post("/api/auth/login", json=_CREDENTIALS)
        tokens: dict[str, Any] = answer.raise_for_status().json()
        return tokens

    def set(self, case: Case[Any], data: dict[str, Any], _context: AuthContext) -> None:
        if case.operation.path.startswith("/oauth/"):
            secret = f"gateway:{os.environ['INTERLOCK_CLIENT_SECRET']}"
            case.headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
            if isinstance(case.body, dict):
                # A client that sends its secret twice is refused, which no schema can express. What breaks the schema
                # stays.
                case.body = {name: value for name, value in case.body.items() if not _again(name, value)}
            return
        admin = case.path.startswith("/api/admin/") and not case.path.endswith("/stream")
        case.headers["Authorization"] = f"Bearer {os.environ['INTERLOCK_ADMIN'] if admin else data['access_token']}"
        body = case.body
        if isinstance(body, dict) and body.keys() == {"refresh_token"} and isinstance(body["refresh_token"], str):
            # A generator can't guess one. A text too long for the schema stays as it is.
            case.body = {"refresh_token": data["refresh_token"]} if len(body["refresh_token"]) <= _LONGEST else body


def _again(name: str, value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LIMITS.get(name, -1)
