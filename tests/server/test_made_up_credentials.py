"""Made-up credentials are refused from memory: none of them costs a read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from interlock.machine.machine import Machine
from interlock.machine.session.session import Session
from interlock.server.app import app_over
from tests.support.asynchronous import asynchronous
from tests.support.inside import HOST, client_of
from tests.support.wire import services_in

PAGE = {"origin": f"http://{HOST}", "x-forwarded-host": HOST, "x-forwarded-method": "GET", "x-forwarded-proto": "http"}
HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "interlock.v1",
}
CALLS: Mapping[str, tuple[str, str]] = {
    "refresh": ("POST", "/api/auth/refresh"),
    "logout": ("POST", "/api/auth/logout"),
    "forward-auth": ("GET", "/api/forward-auth"),
    "handshake": ("GET", "/api/connect"),
}


@pytest.mark.parametrize("call", CALLS)
@asynchronous
async def test_a_made_up_cookie_costs_no_read(tmp_path: Path, call: str) -> None:
    async with services_in(tmp_path) as services, client_of(app_over(services)) as http:
        session = (await services.sessions.begin("anonymous")).instance
        good = services.tokens.refresh_token(session)
        session_id, epoch, rotation, mac = good.split(".")
        services.sessions._cache.clear()
        reads: list[str] = []
        load = services.sessions._log.load

        async def counted(machine: Machine[Session], wanted: str) -> Session | None:
            reads.append(wanted)
            return await load(machine, wanted)

        services.sessions._log.load = counted  # type: ignore[assignment,method-assign]  # a counter
        method, path = CALLS[call]
        for made_up in (
            f"{'0' * 36}.{epoch}.{rotation}.{mac}",
            f"{session_id}.{int(epoch) + 1}.{rotation}.{mac}",
            f"{session_id}.{epoch}.{int(rotation) + 1}.{mac}",
            f"{session_id}.{epoch}.{rotation}.{'A' * 43}",
            f"{session_id}.{rotation}.{mac}",
        ):
            cookie = {"cookie": f"__Host-interlock={made_up}"}
            for credential in (cookie, {"authorization": f"Bearer {made_up}"}):
                await http.request(method, path, headers={**PAGE, **credential, **HANDSHAKE})
        assert reads == []
        answer = await http.post("/api/auth/logout", headers={**PAGE, "cookie": f"__Host-interlock={good}"})
        assert (answer.status_code, reads) == (204, [session_id]), "a good one is looked up"
