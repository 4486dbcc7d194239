"""The guide to identity providers: its configuration and its command work with a provider that is not ours."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import captioned
from tests.support.provider import running_provider
from tests.support.server import running_server

_PAGE = "how-to/use-an-identity-provider.md"


@pytest.mark.asvs("7.1.3")
def test_the_configuration_and_the_command_of_the_guide(tmp_path: Path) -> None:
    with running_provider(tmp_path / "provider") as provider:
        config = tmp_path / "interlock.toml"
        text = captioned(_PAGE, "/etc/interlock.toml")
        assert "https://id.example.org/o" in text
        config.write_text(text.replace("https://id.example.org/o", provider.issuer))
        with running_server(tmp_path / "data", config=config) as server:
            command = captioned(_PAGE, "exchange").replace("http://127.0.0.1:8700", server.url)
            id_token = provider.log_in("ada", nonce="n-1")["id_token"]
            environment = {**os.environ, "ID_TOKEN": id_token, "NONCE": "n-1"}
            printed = subprocess.run(
                ["/bin/sh", "-euc", command], env=environment, capture_output=True, text=True, timeout=60, check=True
            ).stdout
    assert json.loads(printed)["state"] == "authenticated"
