"""A real server with realms, as a process of its own, and a client of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

_LIMIT_S: Final = 300.0
"""How long to wait before a test fails instead of hanging."""

_STEP_S: Final = 0.02

ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})


class RealmServer:
    """``interlock serve`` on a free port, with ``realms`` as in its setting. ``data`` holds its log and its output."""

    def __init__(self, data: Path, realms: Sequence[str], environment: Mapping[str, str]) -> None:
        self.url = ""
        self._data = data
        self._arguments = ["serve", "--port", "0", "--realm", ",".join(realms), "--limit-account", "off"]
        self._environment = {**os.environ, "INTERLOCK_DATA": str(data), **environment}
        # The account is the test's own.
        self._environment["INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS"] = "1"
        self._process: subprocess.Popen[str] | None = None
        self._callers: list[RealmCaller] = []

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers.

        Raises:
            RuntimeError: it did not start. The message is its output.
        """
        self._data.mkdir(parents=True, exist_ok=True)
        log = self._data / "server.log"
        with log.open("a") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # Interlock's own command
                self._command(*self._arguments),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment,
            )
        assert self._process.stdout is not None  # noqa: S101  # it is piped
        line = self._process.stdout.readline()
        if not line.startswith("Interlock listens on "):
            self.kill()
            raise RuntimeError(f"the server did not start: {log.read_text()}")
        self.url = line.split()[3]

    def kill(self) -> None:
        """Kill the server, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server. It lets running executions finish for some seconds."""
        self._end(signal.SIGTERM)

    def log_in(self, email: str, groups: Sequence[str] = ()) -> RealmCaller:
        """Return a client, logged in on a new session. The account is made if it is new, and put into ``groups``."""
        caller = RealmCaller(self.url)
        self._callers.append(caller)
        account = {"email": email, "password": _PASSWORD}
        made = caller.http.post("/api/auth/register", json=account)
        if made.is_success and groups:
            secret = subprocess.run(  # noqa: S603  # Interlock's own command
                self._command("admin-token", "create", "contract"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
                env=self._environment,
            ).stdout.strip()
            caller.http.put(
                f"/api/admin/accounts/{made.json()['account_id']}/groups",
                json={"groups": [*groups]},
                headers={"Authorization": f"Bearer {secret}"},
            ).raise_for_status()
        tokens = caller.http.post("/api/auth/login", json=account).raise_for_status().json()
        caller.http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        return caller

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "interlock.server.cli", *arguments]

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_LIMIT_S)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            while self._callers:
                self._callers.pop().http.close()


class RealmCaller:
    """A client of one session. Its methods may be called in several threads."""

    def __init__(self, url: str) -> None:
        self.http: Final = httpx.Client(base_url=url, timeout=_LIMIT_S)

    def submit(self, intent_id: str, name: str, parameters: Mapping[str, Any]) -> httpx.Response:
        """Submit an intent."""
        return self.http.post("/api/intents", json={"id": intent_id, "name": name, "parameters": parameters})

    def execution(self, execution_id: str) -> dict[str, Any]:
        """Return the execution as it is now."""
        return dict(self.http.get(f"/api/executions/{execution_id}").raise_for_status().json())

    def wait(self, execution_id: str, states: frozenset[str] = ENDED) -> dict[str, Any]:
        """Wait until the execution is in one of ``states``, and return it.

        Raises:
            TimeoutError: it is in none of them after five minutes.
        """
        deadline = time.monotonic() + _LIMIT_S
        while (execution := self.execution(execution_id))["state"] not in states:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{execution_id} is still {execution['state']}")
            time.sleep(_STEP_S)
        return execution

    def cancel(self, execution_id: str) -> None:
        """Cancel the execution. Return when it has ended, or when the server can't say yet how it ends."""
        self.http.delete(f"/api/executions/{execution_id}").raise_for_status()

    def revoke_others(self) -> None:
        """End all other sessions of the account."""
        self.http.delete("/api/sessions").raise_for_status()


_PASSWORD: Final = "a password for tests of realms"  # noqa: S105  # of an account that the test makes
