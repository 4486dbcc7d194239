"""Schemathesis tries to disprove the OpenAPI document."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from interlock.server.guard.secrets import Secrets
from tests.support.admin import admin_token
from tests.support.effort import often
from tests.support.errands import REALM
from tests.support.log import verify
from tests.support.server import running_server
from tests.support.source import ROOT

REPRODUCIBLE = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


@pytest.mark.asvs("4.1.1")
def test_schemathesis_finds_no_fault(tmp_path: Path) -> None:
    """All checks, all phases. tests/support/schemathesis.toml lists exceptions and reasons."""
    settings = {"connections_per_session": 3, "realm": REALM, "executions_per_account": 100_000}
    with running_server(tmp_path / "data", **settings) as server:
        document = httpx.get(f"{server.url}/schema/openapi.json").json()
        outcome = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                f"--config-file={ROOT / 'tests/support/schemathesis.toml'}",
                "run",
                f"{server.url}/schema/openapi.json",
                f"--max-examples={often(15, 100)}",
                "--no-color",
                *(["--seed=1"] if REPRODUCIBLE else []),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "INTERLOCK_URL": server.url,
                "INTERLOCK_CLIENT_SECRET": Secrets(server.data / "keys", "client").create("gateway", 1),
                "INTERLOCK_ADMIN": admin_token(server.data, "schemathesis"),
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            },
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        verify(server.data)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert f"Tested: {sum(map(len, document['paths'].values()))}\n" in outcome.stdout
