"""The forms in which proxies describe a request to forward-auth, and preflights, which no session can have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.support.asynchronous import asynchronous
from tests.support.gate import ALLOWED, PATH, gate_in

HOST: Final = "app.example"
OWN_PAGE: Final = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}


def described(form: str, method: str) -> tuple[dict[str, str], str, str]:
    """Return the headers, method and path with which a proxy of ``form`` asks about a request to ``HOST``."""
    if form == "x-original":
        return {"x-original-method": method, "x-original-url": f"https://{HOST}/things?x=1"}, "GET", PATH
    if form == "envoy":
        return {"host": HOST, "x-forwarded-proto": "https"}, method, f"{PATH}/things?x=1"
    return {"x-forwarded-method": method, "x-forwarded-host": HOST, "x-forwarded-proto": "https"}, "GET", PATH


FORMS: Final = ("x-forwarded", "x-original", "envoy")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_the_method_and_origin_of_the_request_decide_in_each_form(tmp_path: Path, form: str) -> None:
    async with gate_in(tmp_path, forward_auth_request=form) as gate:
        for method in METHODS:
            headers, by, path = described(form, method)
            neither = {name: value for name, value in (headers | gate.cookie).items() if name != "sec-fetch-site"}
            for sent, status in (
                (headers | gate.bearer, 200),
                (headers | gate.cookie | OWN_PAGE, 200),
                (headers | gate.cookie | {"origin": ALLOWED}, 200),
                (headers | gate.cookie | {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}, 403),
                (headers | gate.cookie | {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}, 403),
                (neither, 200 if method in {"GET", "HEAD", "OPTIONS"} else 403),
                (headers, 401),
            ):
                answer = await gate.ask(sent, method=by, path=path)
                assert answer.status_code == status, (method, sent)


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_headers_of_another_form_are_the_clients_and_ignored(tmp_path: Path, form: str) -> None:
    lies: dict[str, str] = {}
    for other in {"x-forwarded", "x-original"} - {form}:
        lies |= {name: value.replace(HOST, "evil.example") for name, value in described(other, "GET")[0].items()}
    if form == "envoy":
        del lies["x-forwarded-proto"]
    headers, by, path = described(form, "POST")
    async with gate_in(tmp_path, forward_auth_request=form) as gate:
        foreign = {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}
        assert (await gate.ask(lies | headers | gate.cookie | foreign, method=by, path=path)).status_code == 403
        unknown = lies | headers | gate.cookie
        del unknown["sec-fetch-site"]
        assert (await gate.ask(unknown, method=by, path=path)).status_code == 403


@asynchronous
async def test_envoys_question_is_never_read_as_another_call(tmp_path: Path) -> None:
    async with gate_in(tmp_path, forward_auth_request="envoy") as gate:
        for rest in ("", "/", "/../admin/accounts", "/%2e%2e/session", "//x", "/" + "%41" * 5_000, "/a%2fb;c?d=e&d=f"):
            for method in ("GET", "POST"):
                # As it is written, dots included.
                target = {"target": f"{PATH}{rest}".encode()}
                answer = await gate.http.request(method, PATH, headers=gate.bearer, extensions=target)
                assert (answer.status_code, answer.headers["remote-user"]) == (200, "ada"), rest[:20]
        assert (await gate.ask(gate.bearer, path=f"{PATH}x")).status_code == 404


@pytest.mark.parametrize("form", ["x-forwarded", "x-original"])
@asynchronous
async def test_only_envoy_may_append_a_path(tmp_path: Path, form: str) -> None:
    async with gate_in(tmp_path, forward_auth_request=form) as gate:
        assert (await gate.ask(gate.bearer, path=f"{PATH}/things")).status_code == 404


PREFLIGHT: Final = {"origin": "https://evil.example", "access-control-request-method": "PUT", "remote-user": "root"}


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_a_preflight_passes_without_an_identity_only_by_the_setting(tmp_path: Path, form: str) -> None:
    headers, by, path = described(form, "OPTIONS")
    async with gate_in(tmp_path / "off", forward_auth_request=form) as gate:
        assert (await gate.ask(headers | PREFLIGHT, method=by, path=path)).status_code == 401
    async with gate_in(tmp_path / "on", forward_auth_request=form, forward_auth_preflights=True) as gate:
        answer = await gate.ask(headers | PREFLIGHT, method=by, path=path)
        assert answer.status_code == 200
        assert {answer.headers[name] for name in answer.headers if name.startswith(("remote-", "x-session-"))} == {""}
        assert {"remote-user", "remote-groups", "x-session-id"} <= set(answer.headers)


@pytest.mark.parametrize("form", FORMS)
@asynchronous
async def test_what_is_no_preflight_needs_a_session_all_the_same(tmp_path: Path, form: str) -> None:
    async with gate_in(tmp_path, forward_auth_request=form, forward_auth_preflights=True) as gate:
        for method in METHODS:
            headers, by, path = described(form, method)
            for left_out in (() if method != "OPTIONS" else ("origin",), ("access-control-request-method",)):
                sent = {name: value for name, value in (headers | PREFLIGHT).items() if name not in left_out}
                assert (await gate.ask(sent, method=by, path=path)).status_code == 401, (method, left_out)
