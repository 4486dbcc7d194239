"""A server's use of its keys, by hand."""

from __future__ import annotations

from pathlib import Path

from interlock.server.guard.keys import rotation
from interlock.server.guard.keys.keyring import KeyRing
from interlock.server.guard.keys.keyset import Keys, key_file
from interlock.server.guard.keys.rotation import TokenLifetimes, record_lifetimes, rotate
from interlock.server.guard.tokens import Tokens
from tests.support.clock import HandClock
from tests.support.steps import Story

LIFETIMES = TokenLifetimes(access_token_ms=300_000, session_ms=43_200_000)
SID = "0" * 36


class KeyServer:
    """A server's use of its keys: the files are scanned when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        make_lives(folder)
        self.ring = KeyRing(folder, self.clock, LIFETIMES)
        self.tokens = Tokens(self.ring.keys, self.clock, issuer="interlock", audience="interlock", lifetime_s=300)

    @property
    def now_ms(self) -> int:
        return self.clock.time_ms

    def look(self) -> list[bool]:
        """Scan once. Return whether keys were retired early, for each change."""
        heard: list[bool] = []

        def use(keys: Keys | None, early: bool) -> None:  # noqa: FBT001  # KeyRing's signature
            self.tokens.use(keys)
            heard.append(early)

        self.ring.take(self.ring.look(), use)
        return heard

    def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in rotation.rows(self.folder, self.now_ms)}

    def retire(self, name: str, *, force: bool = False) -> None:
        key = rotation.find(self.folder, name)
        rotation.check_retirement(self.folder, key, self.now_ms, force=force)
        rotation.remove(self.folder, key)


def make_lives(folder: Path) -> None:
    folder.mkdir(exist_ok=True, mode=0o700)
    record_lifetimes(folder, LIFETIMES)


def token(server: KeyServer) -> str:
    story = Story(SID)
    story.begin("ada")
    return server.tokens.access_token(story.session)


def new_key_file(server: KeyServer, *, refresh: bool = False) -> Path:
    return key_file(server.folder, rotate(server.folder, server.now_ms, refresh=refresh, at_once=True))
