"""A hostile identity provider: it serves what a test says, counts the requests, and signs anything."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "the-application"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


def _rows(keys: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kid, key in keys.items():
        kind = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
        algorithm = next((a for k, a in kind.items() if isinstance(key, k)), OKPAlgorithm)
        rows.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid})  # type: ignore[attr-defined]  # each of the three has it
    return rows


class Hostile:
    """``answers``: each path's answer, as (status, headers, body). ``asked``: the paths in the order of requests."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.keys: dict[str, Any] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.drip_s = 0.0
        self.publish()

    def publish(self, *rows: Any, issuer: str | None = None, jwks_uri: str | None = None) -> None:
        """Serve discovery, and ``rows`` as the keys; by default its own."""
        self.serve(DISCOVERY, {"issuer": issuer or self.issuer, "jwks_uri": jwks_uri or self.issuer + KEYS})
        self.serve(KEYS, {"keys": list(rows) or _rows(self.keys)})

    def serve(self, path: str, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Serve ``document`` at ``path``: bytes as they are, anything else as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (status, headers or {}, body)

    def move(self, path: str) -> None:
        """Redirect ``path`` to a new location of its answer."""
        self.answers["/moved"] = self.answers[path]
        self.serve(path, b"", 302, {"location": f"{self.issuer}/moved"})

    def drip(self, pause_s: float) -> None:
        """Send one byte at a time, with a pause after each; 0 sends all at once."""
        self.drip_s = pause_s

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a valid ID token of a new user, with ``changed``; None removes a claim."""
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": uuid4().hex,
            "aud": AUDIENCE,
            "iat": now_s,
            "exp": now_s + 3600,
            "jti": uuid4().hex,
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self, kid: str = "rsa", algorithm: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Return a token signed with its key ``kid``."""
        return jwt.encode(
            self.claims(**claims), self.keys[kid], algorithm=algorithm, headers={"kid": kid, **(headers or {})}
        )


@contextmanager
def hostile_provider() -> Iterator[Hostile]:
    """Run a provider on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hostile.asked.append(self.path)
            status, headers, body = hostile.answers.get(self.path, (404, {}, b""))
            if "gzip" in self.headers.get("accept-encoding", ""):
                headers, body = {**headers, "content-encoding": "gzip"}, gzip.compress(body)
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for at in range(0, len(body), 1 if hostile.drip_s else 65_536):
                    self.wfile.write(body[at : at + (1 if hostile.drip_s else 65_536)])
                    time.sleep(hostile.drip_s)
            except OSError:
                self.close_connection = True  # the server stopped reading

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hostile = Hostile(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hostile
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
