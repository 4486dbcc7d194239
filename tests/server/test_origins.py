"""Which pages may use the cookie: one table for the API, the WebSocket handshake and forward-auth, over real requests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from interlock.machine.session.commands import Authenticate
from interlock.server.app import app_over
from interlock.server.guard.origins import Use, parse_origins, why_refused
from interlock.server.settings import Settings
from interlock.server.wiring import open_services
from tests.support.accounts import registered
from tests.support.asynchronous import asynchronous
from tests.support.inside import client_of

HOST: Final = "app.example"
LISTED: Final = ("https://other.example", "https://port.example:8443", "https://Upper.Example:443", "app://desktop")

OWN: Final = ("https://app.example", "https://app.example:443", "HTTPS://App.Example", "wss://app.example")
"""Spellings of the server's own origin, over TLS."""
ALLOWED: Final = (
    "https://other.example",
    "HTTPS://OTHER.example:443",
    "https://port.example:8443",
    "https://upper.example",
)
FOREIGN: Final = (
    "https://evil.example",
    "https://app.example.evil.example",
    "https://evil.app.example",
    "https://app.example:8443",
    "https://app.example:80",
    "https://port.example",
    "http://other.example",
    "app://app.example",
    "app.example",
    "https://app.example/",
    "https://app.example, https://app.example",
    "https://app.example https://evil.example",
    "https://evil.example,https://app.example",
    "https://user@app.example",
    "https://app.example@evil.example",
    "https://app.example:",
    "https://app.example:x",
    "https://app.example:65536",
    "https://[app.example",
    "https://",
    "NULL",
    "null, null",
    "",
    "\xff",
)
SITES: Final = (None, "same-origin", "same-site", "cross-site", "none", "unheard-of", "same-origin, same-origin")
USES: Final = (Use.CALL, Use.HANDSHAKE, Use.APPLICATION)


def headers_of(origin: str | None, site: str | None, **more: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a page's request; names in ``more`` have underscores."""
    sent = {
        "host": HOST,
        "x-forwarded-host": HOST,
        "x-forwarded-method": "POST",
        "origin": origin,
        "sec-fetch-site": site,
    }
    sent |= {name.replace("_", "-"): value for name, value in more.items()}
    return [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None]


def passes(use: Use, headers: list[tuple[bytes, bytes]]) -> bool:
    return why_refused(use, headers, parse_origins(LISTED)) is None


@pytest.mark.asvs("3.5.1", "4.4.2")
@pytest.mark.parametrize("use", USES)
def test_a_page_whose_origin_is_neither_own_nor_listed_never_passes(use: Use) -> None:
    for origin, site, proto in itertools.product(FOREIGN, SITES, ("https", "http", "wss", "", "HTTPS, http")):
        assert not passes(use, headers_of(origin, site, x_forwarded_proto=proto)), (origin, site, proto)


@pytest.mark.parametrize("use", USES)
def test_a_listed_origin_passes_in_any_spelling_from_any_site(use: Use) -> None:
    for origin, site in itertools.product((*ALLOWED, "app://desktop"), SITES):
        assert passes(use, headers_of(origin, site)), (origin, site)


@pytest.mark.parametrize("use", USES)
def test_the_own_origin_passes_unless_sec_fetch_site_is_another_site(use: Use) -> None:
    for origin, host, site in itertools.product(OWN, (HOST, "APP.example", f"{HOST}:443"), SITES):
        headers = headers_of(origin, site, host=host, x_forwarded_host=host, x_forwarded_proto="https")
        elsewhere = site in {"same-site", "cross-site"} and use is not Use.HANDSHAKE
        assert passes(use, headers) == (not elsewhere), (origin, host, site)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("origin", "host", "proto", "own"),
    [
        ("https://app.example", HOST, None, True),
        ("https://app.example", HOST, "http", True),
        ("https://app.example", f"{HOST}:80", None, False),
        ("https://app.example:8443", f"{HOST}:8443", "https", True),
        ("https://app.example", f"{HOST}:8443", "https", False),
        ("http://app.example", HOST, None, True),
        ("http://app.example", HOST, "", True),
        ("http://app.example", HOST, "http", True),
        ("http://app.example", HOST, "ws", True),
        ("http://app.example", HOST, "HTTP, ws", True),
        ("ws://app.example:80", HOST, "ws", True),
        ("http://app.example", f"{HOST}:80", None, True),
        ("http://app.example", HOST, "https", False),
        ("http://app.example", HOST, "HTTPS", False),
        ("http://app.example", HOST, "wss", False),
        ("http://app.example", HOST, "https, http", False),
        ("http://app.example", HOST, "http,https", False),
        ("http://app.example", HOST, "nonsense", False),
        ("http://[::1]:8700", "[::1]:8700", None, True),
        ("http://127.0.0.1:8700", "127.0.0.1:8700", None, True),
        ("http://127.0.0.1:8700", "127.0.0.1:8701", None, False),
        ("https://app.example", "", "https", False),
        ("https://app.example", "app.example:x", "https", False),
    ],
)
def test_the_own_origin_is_scheme_host_and_port(
    use: Use, origin: str, host: str, proto: str | None, *, own: bool
) -> None:
    more = {"host": host, "x_forwarded_host": host} | ({} if proto is None else {"x_forwarded_proto": proto})
    assert passes(use, headers_of(origin, None, **more)) == own


@pytest.mark.parametrize("use", USES)
def test_of_several_hosts_in_x_forwarded_host_the_first_counts(use: Use) -> None:
    headers = headers_of("https://app.example", None, x_forwarded_host=f"{HOST}, inner.example")
    assert passes(use, headers)
    headers = headers_of("https://inner.example", None, x_forwarded_host=f"{HOST}, inner.example")
    assert not passes(use, headers)


@pytest.mark.asvs("3.5.1")
@pytest.mark.parametrize("use", USES)
def test_a_null_origin_passes_only_from_the_same_origin(use: Use) -> None:
    """``Referrer-Policy: no-referrer`` makes ``Origin: null`` of a page's own post; a sandboxed frame sends it too."""
    for site in SITES:
        assert passes(use, headers_of("null", site)) == (site == "same-origin"), site


@pytest.mark.asvs("3.5.1", "3.5.3", "3.5.8")
@pytest.mark.parametrize("use", USES)
def test_without_an_origin_sec_fetch_site_decides(use: Use) -> None:
    for site in SITES:
        unsafe, read = (passes(use, headers_of(None, site, x_forwarded_method=method)) for method in ("POST", "GET"))
        own = site in {"same-origin", "none"}
        assert unsafe == (own or (site is None and use is not Use.APPLICATION)), site
        assert read == (own or site is None), site
        visit = headers_of(None, site, x_forwarded_method="GET", sec_fetch_mode="navigate", sec_fetch_dest="document")
        assert passes(use, visit) == (own or site is None or use is Use.APPLICATION), (
            "one may come to visit an application"
        )


@pytest.mark.parametrize("use", USES)
def test_a_duplicate_origin_or_site_header_names_no_page(use: Use) -> None:
    own = headers_of("https://app.example", "same-origin")
    assert passes(use, own)
    assert not passes(use, [*own, (b"origin", b"https://app.example")])
    assert not passes(use, [(b"origin", b"https://evil.example"), *own])
    assert not passes(use, [*headers_of(None, "same-origin"), (b"sec-fetch-site", b"cross-site")])
    assert not passes(use, [*headers_of("null", "cross-site"), (b"sec-fetch-site", b"same-origin")])


def test_a_websocket_through_forward_auth_is_judged_by_its_origin() -> None:
    """Not every browser sends a correct Sec-Fetch-Site with a handshake."""
    socket = {"sec_fetch_mode": "websocket", "x_forwarded_method": "GET", "x_forwarded_proto": "wss"}
    assert passes(Use.APPLICATION, headers_of("https://app.example", "cross-site", **socket))
    assert not passes(Use.APPLICATION, headers_of("http://app.example", "cross-site", **socket))
    assert not passes(Use.APPLICATION, headers_of("https://evil.example", "same-origin", **socket))


@asynccontextmanager
async def three_doors(folder: Path) -> AsyncIterator[Any]:
    """Send a page's requests with a valid cookie to a real server, and return its answers at the three endpoints."""
    async with open_services(Settings(data=str(folder), cheap_passwords_for_tests=True, origins=LISTED)) as services:
        await registered(services, "ada")
        session = (await services.sessions.begin("ada", Authenticate("ada", "password"))).instance
        async with client_of(app_over(services)) as http:

            async def ask(headers: list[tuple[bytes, bytes]]) -> dict[Use, int]:
                token = services.tokens.refresh_token(await services.sessions.load(session.session_id))
                sent = [*headers, (b"cookie", f"__Host-interlock={token}".encode())]
                handshake = [
                    (b"connection", b"upgrade"),
                    (b"upgrade", b"websocket"),
                    (b"sec-websocket-version", b"13"),
                    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
                    (b"sec-websocket-protocol", b"interlock.v1"),
                ]
                call = await http.post("/api/auth/register", headers=headers)
                gate = await http.get("/api/forward-auth", headers=sent)
                async with http.stream("GET", "/api/connect", headers=[*sent, *handshake]) as opened:
                    return {
                        Use.CALL: call.status_code,
                        Use.APPLICATION: gate.status_code,
                        Use.HANDSHAKE: opened.status_code,
                    }

            yield ask


@pytest.mark.asvs("3.5.1", "4.4.2")
@asynchronous
async def test_api_handshake_and_forward_auth_follow_the_origin_table(tmp_path: Path) -> None:
    async with three_doors(tmp_path) as ask:
        let_in = {Use.CALL: 401, Use.APPLICATION: 200, Use.HANDSHAKE: 101}
        walked = itertools.product((None, "null", OWN[2], ALLOWED[1], FOREIGN[0], FOREIGN[3], FOREIGN[10]), SITES[:6])
        for origin, site in walked:
            headers = headers_of(origin, site, x_forwarded_proto="https")
            expected = {use: let_in[use] if passes(use, headers) else 403 for use in USES}
            assert await ask(headers) == expected, (origin, site)
