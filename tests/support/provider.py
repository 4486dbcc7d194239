"""The provider as a process, and a user agent that logs in there: the authorization code flow, with PKCE."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.ports import KeptPort
from tests.support.provider_site import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI


class Provider:
    """Django OAuth Toolkit on its own port. ``issuer`` survives a restart; ``keys`` are files, newest first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.issuer = ""
        self._port = KeptPort()
        self.people: dict[str, list[str]] = {"ada": ["editors", "staff"], "bob": []}
        self.keys: list[Path] = []
        self.process: subprocess.Popen[str] | None = None
        self.new_key()

    def new_key(self) -> None:
        """Create a key that signs from the next start on; earlier ones are still published."""
        path = self.folder / f"key-{len(self.keys)}.pem"
        path.write_bytes(
            rsa.generate_private_key(65537, 2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.keys.insert(0, path)

    def start(self) -> None:
        """Start, and wait until it listens."""
        with (self.folder / "stderr").open("a") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.support.provider_site",
                    str(self.folder),
                    str(self._port.number),
                    json.dumps(self.people),
                    *map(str, self.keys),
                ],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.issuer = self.process.stdout.readline().strip()
        assert self.issuer, (self.folder / "stderr").read_text()

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            process, self.process = self.process, None
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def log_in(self, name: str, nonce: str | None = None) -> dict[str, Any]:
        """Log in ``name``. Return the token endpoint's answer: an ``id_token`` and the provider's own tokens."""
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "scope": "openid",
            "state": secrets.token_urlsafe(16),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **({"nonce": nonce} if nonce is not None else {}),
        }
        with httpx.Client(timeout=60, trust_env=False) as browser:
            login = httpx.URL(self.issuer).join("/login")
            browser.post(login, data={"username": name, "password": name * 2}).raise_for_status()
            answer = browser.get(f"{self.issuer}/authorize/", params=asked)
            assert answer.status_code == 302, answer.text
            back = parse_qs(urlsplit(answer.headers["location"]).query)
            assert back["state"] == [asked["state"]]
            tokens = browser.post(
                f"{self.issuer}/token/",
                data={
                    "grant_type": "authorization_code",
                    "code": back["code"][0],
                    "redirect_uri": REDIRECT_URI,
                    "code_verifier": verifier,
                },
                auth=(CLIENT_ID, CLIENT_SECRET),
            )
        body: dict[str, Any] = tokens.raise_for_status().json()
        return body


@contextmanager
def running_provider(folder: Path) -> Iterator[Provider]:
    """Yield a provider with its own folder, until the context ends."""
    provider = Provider(folder)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
