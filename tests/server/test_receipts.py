"""Every acknowledged transition returns its position and digest, and the log holds exactly that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.machine.ledger import Receipt
from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, hello, logged_in
from tests.support.log import records
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("receipts") / "data") as process:
        yield process


def in_log(data: Path, receipt: dict[str, Any]) -> dict[str, Any]:
    """Return the record that ``receipt`` names, if the log holds it with this digest."""
    record: dict[str, Any] = records(data)[receipt["position"] - 1]
    assert {name: record[name] for name in ("position", "digest")} == receipt
    return record


def in_header(answer: httpx.Response) -> dict[str, Any]:
    """Return the receipt in the answer's header."""
    receipt = Receipt.parse(answer.headers["interlock-receipt"])
    return {"position": receipt.position, "digest": receipt.digest}


def told(answer: httpx.Response) -> dict[str, Any]:
    """Return the receipt in the answer's body. It must equal the header's."""
    receipt: dict[str, Any] = answer.raise_for_status().json()["receipt"]
    assert receipt == in_header(answer)
    return receipt


@asynchronous
async def test_every_transition_of_a_session_returns_its_receipt(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        other = client.sibling()
        begun = told(await other.begin())
        login = told(await other.log_in(client.email))
        refreshed = told(await other.refresh())
        async with client.connect() as socket:
            connected = (await hello(socket))["receipt"]
        change = {"current_password": PASSWORD, "new_password": f"{PASSWORD} {PASSWORD}"}
        changed = told(await client.request("POST", "/api/auth/password", json=change))
        events = [in_log(server.data, receipt)["event"] for receipt in (begun, login, refreshed, connected)]
        assert events == ["create", "authenticate", "refresh", "connect"]
        assert in_log(server.data, changed)["event"] == "revoke", "the last record: the end of the other session"
        assert in_log(server.data, changed)["instance_id"] == other.session_id


@asynchronous
async def test_a_response_without_body_has_its_receipt_in_a_header(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        other = client.sibling()
        await other.log_in(client.email)
        ended = await client.request("DELETE", f"/api/sessions/{other.session_id}")
        assert (ended.status_code, in_log(server.data, in_header(ended))["instance_id"]) == (204, other.session_id)
        out = await client.request("POST", "/api/auth/logout")
        assert (out.status_code, in_log(server.data, in_header(out))["instance_id"]) == (204, client.session_id)


@asynchronous
async def test_ending_many_sessions_returns_the_last_receipt(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        others = [client.sibling() for _ in range(3)]
        for other in others:
            await other.log_in(client.email)
        ended = await client.request("DELETE", "/api/sessions")
        assert ended.json()["ended"] == 3
        last = told(ended)
        positions = [each["position"] for each in records(server.data) if each["event"] == "revoke"]
        assert last["position"] == max(positions)
        nothing = await client.request("DELETE", "/api/sessions")
        assert (nothing.json(), "interlock-receipt" in nothing.headers) == ({"ended": 0}, False)


@asynchronous
async def test_a_call_that_records_nothing_has_no_receipt(server: ServerProcess) -> None:
    async with await logged_in(server.url) as client:
        refused = await client.request("DELETE", "/api/sessions/nobody")
        for answer in (await client.request("GET", "/api/session"), refused):
            assert "interlock-receipt" not in answer.headers
            assert "receipt" not in answer.json()
