"""The contract for authors of realms, on intents that keep it and on one that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from interlock.testing.contract import IntentContract
from interlock.testing.process import RealmServer
from tests.support import held_effects

pytestmark = pytest.mark.slow


class _Held(IntentContract):
    realms = (held_effects.REALM,)
    times = 3

    def environment(self, folder: Path) -> Mapping[str, str]:
        return {held_effects.FOLDER: str(folder)}

    def parameters(self, number: int) -> Mapping[str, Any]:
        return {"number": number}

    def effects(self, folder: Path, number: int) -> int:
        return held_effects.count(folder, number)

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        with _hold(folder):
            yield


class TestOnce(_Held):
    intent = "held.once"


class TestIdempotent(_Held):
    intent = "held.again"


class _Outside(_Held):
    intent = "held.outside"


class _NeverHeld(TestIdempotent):
    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:  # noqa: ARG002  # the code is not held
        yield


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    hold = folder / "hold"
    hold.touch()
    try:
        yield
    finally:
        hold.unlink()


def test_effects_outside_the_transaction_break_the_contract(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"held\.outside is transactional, and its effect happened 2 times"):
        _Outside().test_a_killed_server_keeps_the_promise(tmp_path)


def test_a_contract_that_meets_no_running_code_fails(tmp_path: Path) -> None:
    contract = _NeverHeld()
    contract.times = 0  # type: ignore[misc]  # of this object only
    with pytest.raises(AssertionError, match="this test has shown nothing"):
        contract.test_a_cancelled_execution_keeps_the_promise(tmp_path)


def test_a_commit_after_the_grace_is_refused(tmp_path: Path) -> None:
    """Code that goes on in spite of its cancellation can't commit once the cancellation is recorded."""
    server = RealmServer(tmp_path / "interlock", [held_effects.REALM], {held_effects.FOLDER: str(tmp_path)})
    server.start()
    try:
        caller = server.log_in("owner@example.org")
        with _hold(tmp_path):
            answer = caller.submit("late", "held.defy", {"number": 1}).raise_for_status()
            execution_id = answer.json()["execution_id"]
            caller.wait(execution_id, frozenset({"running"}))
            caller.cancel(execution_id)
            assert caller.wait(execution_id)["state"] == "cancelled"
        assert caller.execution(execution_id)["reason"] == "asked"
    finally:
        server.stop()
    assert held_effects.count(tmp_path, 1) == 0
