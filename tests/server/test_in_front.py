"""Log lines about missing or unknown proxies in front of the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.metrics import log_rows
from tests.support.running import until
from tests.support.server import running_server

TRUSTED = {"trusted_proxies": "127.0.0.1"}


def said(tmp_path: Path, event: str, header: str | None = None, **settings: Any) -> list[dict[str, Any]]:
    """Return the lines of ``event`` after requests, with or without a proxy's header, to a server with ``settings``."""
    with running_server(tmp_path / "data", log_json=True, **settings) as server:
        for _ in range(3):
            headers = {header: "198.51.100.7"} if header else {}
            httpx.get(f"{server.url}/api/session", headers=headers, timeout=60)
        server.stop()
        until(lambda: any(row["event"] == "server.stopped" for row in log_rows(server)))
        return [row for row in log_rows(server) if row["event"] == event]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_an_untrusted_proxy_is_logged_once(tmp_path: Path, header: str) -> None:
    (line,) = said(tmp_path, "proxy.untrusted", header, forwarded_header=header.lower())
    assert (line["level"], line["address"], line["header"]) == ("warning", "127.0.0.1", header.lower())
    assert "198.51.100.7" not in str(line), "what it says is not repeated"


@pytest.mark.parametrize(
    ("header", "settings"),
    [
        (None, {}),
        ("X-Forwarded-For", TRUSTED),
        ("Forwarded", {}),
        ("X-Forwarded-For", {"forwarded_header": "forwarded"}),
    ],
)
def test_no_line_without_a_proxy_or_with_a_trusted_one_or_other_header(
    tmp_path: Path, header: str | None, settings: dict[str, Any]
) -> None:
    assert said(tmp_path, "proxy.untrusted", header, **settings) == []


def test_an_exposed_server_without_a_proxy_warns_at_its_start(tmp_path: Path) -> None:
    (line,) = said(tmp_path, "server.exposed", host="0.0.0.0")  # noqa: S104  # what the warning is about
    assert (line["level"], line["host"]) == ("warning", "0.0.0.0")  # noqa: S104  # see above


@pytest.mark.parametrize(
    "settings",
    [{"host": "127.0.0.1"}, {"host": "127.0.0.2"}, {"host": "0.0.0.0", **TRUSTED}],  # noqa: S104  # see above
)
def test_a_local_or_proxied_server_does_not_warn(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert said(tmp_path, "server.exposed", **settings) == []
