"""Unguessable values: at least 128 random bits, and none from a generator that can be seeded."""

from __future__ import annotations

import asyncio
import base64
import functools
import operator
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.keyset import Keys, create_refresh_key, create_signing_key, load_keys
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.throttling.devices import Devices
from interlock.server.guard.tickets import Tickets
from interlock.server.ids import new_id, new_session_id
from tests.support.accounts import owner
from tests.support.steps import NOW_MS, Story

_MANY = 64
"""A random bit is the same in this many with a probability of 2^-63."""
_SEED = 20_260_101


class _Forgetful:
    """A ticket store that keeps nothing: the test examines issued tickets."""

    async def add(self, *_: Any) -> None:
        return None

    async def take(self, *_: Any) -> None:
        return None


def _session() -> Session:
    story = Story("0" * 36)
    story.begin("ada")
    return story.session


def _session_id(_folder: Path) -> bytes:
    return base64.b32hexdecode(new_session_id(NOW_MS).upper() + "====")


def _id(_folder: Path) -> bytes:
    return _base64url(new_id("acc").removeprefix("acc_"))


def _ticket(_folder: Path) -> bytes:
    tickets = Tickets(_Forgetful(), SystemClock(), lifetime_ms=30_000)
    return _base64url(asyncio.run(tickets.issue(_session(), NOW_MS, "kid")))


def _secret(folder: Path) -> bytes:
    create_refresh_key(folder, NOW_MS)
    secrets = Secrets(folder, "client")
    secret = secrets.create("gateway", NOW_MS)
    secrets.remove("gateway")
    return _base64url(secret.removeprefix("ilk_client_gateway_"))


def _refresh_key(folder: Path) -> bytes:
    return create_refresh_key(folder, NOW_MS).secret


def _signing_key(folder: Path) -> bytes:
    private = create_signing_key(folder, NOW_MS).private
    return int(private.private_numbers().private_value).to_bytes(32, "big")


def _device(folder: Path) -> bytes:
    store: Any = None
    cookie = Devices(store, SystemClock(), lambda: _keys(folder)).issue(owner())
    return _base64url(cookie.split(".")[2])


@functools.cache
def _keys(folder: Path) -> Keys:
    return load_keys(folder / "keys")


MADE: dict[str, Callable[[Path], bytes]] = {
    "session id": _session_id,
    "another id": _id,
    "ticket": _ticket,
    "secret of other software": _secret,
    "refresh key": _refresh_key,
    "signing key": _signing_key,
    "device cookie": _device,
}
"""Functions that make a new one each, in a separate folder, and return its bytes."""


@pytest.mark.asvs("11.5.1")
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_unguessable_values_have_128_bits_from_no_seedable_generator(
    tmp_path: Path, make: Callable[[Path], bytes]
) -> None:
    made, before = [], random.getstate()
    for _ in range(_MANY):
        # Values from the module `random` would repeat here.
        random.seed(_SEED)
        made.append(int.from_bytes(make(tmp_path), "big"))
    random.setstate(before)
    assert len(set(made)) == _MANY, "one was made twice"
    drawn = functools.reduce(operator.or_, (each ^ made[0] for each in made))
    assert drawn.bit_count() >= 128, "the bits that differ between any two of them"


_FORKS = """
import os
from interlock.server.ids import next_id

names = {next_id("cmd") for _ in range(10)}
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, " ".join(next_id("cmd") for _ in range(20)).encode())
    os._exit(0)
os.wait()
childs = set(os.read(reader, 65536).decode().split())
names |= {next_id("cmd") for _ in range(10)}
print(len(names), len(childs), len(names & childs))
"""


def test_a_forked_process_generates_other_ids_than_its_parent() -> None:
    """A command under a known id is taken for a repeat, and not executed."""
    outcome = subprocess.run([sys.executable, "-c", _FORKS], capture_output=True, text=True, check=True)
    assert outcome.stdout.split() == ["20", "20", "0"]


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
