"""``interlock webhooks create`` refuses what could never be sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.server.guard.keys.keyset import load_keys
from tests.support.log import interlock


@pytest.mark.parametrize(
    ("url", "networks", "message"),
    [
        ("http://127.0.0.1:8951/hooks", "", "it resolves to no public address, and to none in outgoing_networks"),
        ("https://[::1]/hooks", "10.0.0.0/8", "it resolves to no public address, and to none in outgoing_networks"),
        ("http://example.org/hooks", "", "plain HTTP is allowed to the networks in outgoing_networks only"),
        ("http://93.184.215.14/", "10.0.0.0/8", "plain HTTP is allowed to the networks in outgoing_networks only"),
        ("http://10.1.2.3/", "10.0.0.0/8", None),
        ("http://inside.example/", "10.0.0.0/8", None),
        ("https://example.org/", "", None),
    ],
)
def test_a_webhook_is_created_only_where_something_could_be_sent(
    tmp_path: Path, url: str, networks: str, message: str | None
) -> None:
    load_keys(tmp_path / "keys")
    config = tmp_path / "interlock.toml"
    config.write_text(f"outgoing_networks = {json.dumps(networks.split())}")
    words = ("webhooks", "create", "shop", url, "--scope", "all", "--data", tmp_path, "--config", config)
    outcome = interlock(*words)
    if message is None:
        assert (outcome.returncode, outcome.stdout[:6]) == (0, "whsec_")
    else:
        said = f"interlock: nothing could be sent to {url}: {message}\n"
        assert (outcome.returncode, outcome.stdout, outcome.stderr) == (2, "", said)
        assert not list((tmp_path / "keys").glob("webhook-*"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org/", "the URL must be https://… or http://…, without a password, a # or a space"),
        (
            "https://user:secret@example.org/",
            "the URL must be https://… or http://…, without a password, a # or a space",
        ),
        ("https://example.org/#part", "the URL must be https://… or http://…, without a password, a # or a space"),
        ("https://exa mple.org/", "the URL must be https://… or http://…, without a password, a # or a space"),
        ("https://example.org/" + "x" * 3000, "the URL is longer than 2048 characters"),
    ],
    ids=["scheme", "password", "fragment", "unreadable", "long"],
)
def test_a_url_that_can_not_be_a_webhook_is_refused(tmp_path: Path, url: str, message: str) -> None:
    outcome = interlock("webhooks", "create", "shop", url, "--scope", "all", "--data", tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (2, "", f"interlock: {message}\n")
    assert json.dumps([*map(str, tmp_path.iterdir())]) == "[]"
