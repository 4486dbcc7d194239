"""The search for leaked secrets finds a secret in each form in which one could leak."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from urllib.parse import quote

from tests.support.canary import Canaries


def test_a_leaked_canary_is_found(tmp_path: Path) -> None:
    canaries = Canaries()
    password = canaries.password("p", 'canary ☂ \\ "secret" ' + secrets.token_hex(8))
    token = canaries.add("t", secrets.token_urlsafe(32))
    for leak in (
        password.encode(),
        json.dumps({"a": password}).encode(),
        json.dumps(json.dumps(password)).encode(),
        repr(password).encode(),
        quote(password).replace("/", "%2F").encode(),
        base64.b64encode(f"ada:{password}".encode()),
        base64.urlsafe_b64encode(f"ada@{password} and more".encode()),
        base64.b64encode(f"{password}!".encode()),
        password.encode().hex().encode(),
        b"... " + token[3:40].encode() + b" ...",
        base64.urlsafe_b64decode(token + "="),
        base64.b16encode(token.encode()),
    ):
        assert canaries.found("x", b"before " + leak + b" after"), leak
    (tmp_path / "a").write_bytes(b"\0" * 4096 + token.encode())
    assert canaries.found_in(tmp_path)
    assert canaries.found("x", b"nothing of the kind" * 1000) == []
