"""The contract of an intent, as tests against a real server: its effects happen as often as it declares, whatever happens.

Subclass :class:`IntentContract` in a test module of your own. pytest finds its tests.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from interlock.loading import load_realms
from interlock.realm import Intent
from interlock.testing.process import ENDED, RealmCaller, RealmServer

T = TypeVar("T")

_AT_ONCE: Final = 16
"""How many clients submit the same intent at once."""

_STEP_S: Final = 0.004

_OWNER: Final = "owner@example.org"


class IntentContract(ABC):
    """Tests of one intent. Override the attributes and methods below.

    ``tmp_path`` is pytest's, a new folder for each test.
    """

    realms: ClassVar[Sequence[str]]
    """The realms to load, as in the setting ``realm``."""

    intent: ClassVar[str]
    """The name of the intent."""

    times: ClassVar[int] = 6
    """How many executions each test interferes with, each a little later in its life."""

    @abstractmethod
    def parameters(self, number: int) -> Mapping[str, Any]:
        """Return parameters of the intent, others for each number. They must be valid."""

    @abstractmethod
    def effects(self, folder: Path, number: int) -> int:
        """Return how often the intent's effect with ``parameters(number)`` is in the realm's data. The server is stopped."""

    @abstractmethod
    def environment(self, folder: Path) -> Mapping[str, str]:
        """Return environment variables of the server, with which the realm keeps its data in ``folder``."""

    def held(self, folder: Path) -> AbstractContextManager[None]:  # noqa: ARG002  # an override uses it
        """Hold the intent's code in the middle of its work until the context ends, for example by a lock in its database.

        Without an override, the tests meet the code wherever it is. They fail if they never meet it.
        """
        return nullcontext()

    def test_the_same_id_at_once_is_one_execution(self, tmp_path: Path) -> None:
        """A client that repeats a request, because it got no answer, gets the execution and no second effect."""
        with self._server(tmp_path) as server:
            caller = self._caller(server)
            answers = _at_once(_AT_ONCE, lambda: caller.submit("same", self.intent, self.parameters(1)))
            _require(
                sorted(each.status_code for each in answers) == [200] * (_AT_ONCE - 1) + [202],
                f"one request is the first, and the others are repeats of it: {[each.text for each in answers]}",
            )
            ids = {each.json()["execution_id"] for each in answers}
            _require(len(ids) == 1, f"one intent is one execution: {ids}")
            other = caller.submit("same", self.intent, self.parameters(2))
            _require(other.status_code == 409, f"the id is taken: {other.text}")  # noqa: PLR2004  # Conflict
            outcome = caller.wait(ids.pop())
        self._check(tmp_path, {1: outcome})
        _require(self.effects(tmp_path, 2) == 0, "what was refused has no effect")

    def test_a_cancelled_execution_keeps_the_promise(self, tmp_path: Path) -> None:
        """The owner cancels in the middle, and a result that comes too late is none."""

        def cancel(_server: RealmServer, caller: RealmCaller, execution_id: str) -> None:
            caller.cancel(execution_id)

        self._interfere(tmp_path, cancel, {"asked"})

    def test_a_revoked_session_keeps_the_promise(self, tmp_path: Path) -> None:
        """The session is revoked in the middle, and its execution is cancelled or finishes, as declared."""

        def revoke(server: RealmServer, _caller: RealmCaller, _execution_id: str) -> None:
            self._caller(server).revoke_others()

        cancels = self._declared().on_session_end == "cancel"
        self._interfere(tmp_path, revoke, {"session_ended"} if cancels else set())

    def test_a_killed_server_keeps_the_promise(self, tmp_path: Path) -> None:
        """The server dies in the middle, and the next start repeats or ends the execution, as declared."""

        def kill(server: RealmServer, _caller: RealmCaller, _execution_id: str) -> None:
            server.kill()
            server.start()

        self._interfere(
            tmp_path, kill, {"interrupted", "timeout"} if self._declared().effects == "once" else {"timeout"}
        )

    def _interfere(self, folder: Path, act: Callable[[RealmServer, RealmCaller, str], None], reasons: set[str]) -> None:
        """Let ``act`` happen in the middle of executions. Those that do not succeed end for one of ``reasons``."""
        outcomes: dict[int, dict[str, Any]] = {}
        with self._server(folder) as server:
            # One without interference, in which the realm creates what it needs.
            first = self._caller(server).submit("intent-0", self.intent, self.parameters(0)).raise_for_status()
            outcomes[0] = self._caller(server).wait(first.json()["execution_id"])
            for number in range(1, self.times + 1):
                caller = self._caller(server)
                with self.held(folder):
                    answer = caller.submit(f"intent-{number}", self.intent, self.parameters(number)).raise_for_status()
                    execution_id = answer.json()["execution_id"]
                    caller.wait(execution_id, ENDED | {"running"})
                    time.sleep(number * _STEP_S)
                    acting = threading.Thread(target=act, args=(server, caller, execution_id))
                    acting.start()
                    # The code goes on at some time during the act, and the last one after it.
                    acting.join(number * _STEP_S if number < self.times else None)
                acting.join()
                outcomes[number] = self._caller(server).wait(execution_id)
        _require(
            reasons == set() or any(each["state"] != "succeeded" or each["attempt"] > 1 for each in outcomes.values()),
            "every execution ended by itself, so this test has shown nothing: override held()",
        )
        for number, outcome in outcomes.items():
            _require(
                outcome["state"] == "succeeded" or outcome["reason"] in reasons,
                f"execution {number} has not succeeded, and for no reason of {sorted(reasons)}: {outcome}",
            )
        self._check(folder, outcomes)

    def _check(self, folder: Path, outcomes: Mapping[int, dict[str, Any]]) -> None:
        """Check that the effects of executions are those that their outcomes promise."""
        declared = self._declared().effects
        for number, outcome in outcomes.items():
            count = self.effects(folder, number)
            if outcome["state"] == "succeeded":
                kept = count >= 1 if declared == "idempotent" else count == 1
            else:
                kept = declared == "idempotent" or count <= (declared == "once")
            _require(kept, f"{self.intent} is {declared}, and its effect happened {count} times: {outcome}")

    def _declared(self) -> Intent:
        return load_realms(self.realms).intent(self.intent)

    def _caller(self, server: RealmServer) -> RealmCaller:
        return server.log_in(_OWNER, sorted(self._declared().roles))

    @contextmanager
    def _server(self, folder: Path) -> Iterator[RealmServer]:
        server = RealmServer(folder / "interlock", self.realms, self.environment(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _at_once(count: int, call: Callable[[], T]) -> list[T]:
    """Return the results of ``count`` calls in as many threads, which begin together."""
    ready = threading.Barrier(count)

    def one() -> T:
        ready.wait()
        return call()

    with ThreadPoolExecutor(count) as pool:
        return [each.result() for each in [pool.submit(one) for _ in range(count)]]


def _require(kept: object, otherwise: str) -> None:
    """Fail the test, also where asserts are not rewritten or are off."""
    if not kept:
        raise AssertionError(otherwise)
