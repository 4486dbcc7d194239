"""Sign-in of operators: who gets in, what their browser holds, and what ends it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from interlock.server.experience.openapi.document import FORWARD_AUTH
from tests.support.admin import Admin, problem, recorded_admin_token
from tests.support.client import PASSWORD, Client, logged_in
from tests.support.log import records
from tests.support.operators import ACT, COOKIE, LOOK, MODULE, OWN_PAGE, SETTINGS, Operator, in_groups, signed_in
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server

ELSEWHERE = (
    "https://evil.example",
    "//evil.example",
    "/console//evil.example",
    "/\\evil",
    "/api/session",
    "/console\r\nx: y",
    "/consoles",
)


@scenario()
async def test_without_a_named_group_there_is_no_console(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Operator(server.url) as visitor:
            for path in ("/console", "/console/login", "/console/sessions", "/console/live"):
                assert (await visitor.get(path)).status_code == 404, path
            assert (await visitor.sign_in("ada@example.org")).status_code == 404


@scenario()
async def test_a_user_of_the_application_never_gets_in(server: ServerProcess, secret: str) -> None:
    """Nor does a member of other groups; no session is begun, and the password alone is no way to learn who is an operator."""
    client, subject = await in_groups(server.url, secret, "staff", f"{ACT}-not", "console")
    async with client, Operator(server.url) as visitor, Admin(server.url, secret) as admin:
        before = await admin.get("/sessions", subject=subject)
        refused = await visitor.sign_in(client.email)
        assert (refused.status_code, visitor.cookie) == (403, "")
        assert await admin.get("/sessions", subject=subject) == before
        wrong = await visitor.sign_in(client.email, "some other long password")
        unknown = await visitor.sign_in("nobody-here@example.org", "some other long password")
        assert wrong.status_code == unknown.status_code == 401
        alert = r'role="alert">(.*?)<'
        assert re.findall(alert, wrong.text) == re.findall(alert, unknown.text) != []


@pytest.mark.parametrize("credential", ["access token", "refresh token", "cookie", "marker"])
@scenario()
async def test_no_credential_of_the_application_opens_the_console(
    server: ServerProcess, secret: str, credential: str
) -> None:
    """Not even an operator's own ones: the console asks for the password."""
    client, _ = await in_groups(server.url, secret, ACT)
    async with client:
        marker = f"{client.session_id}.1.{client.refresh_token.rpartition('.')[2]}"
        shown = {
            "access token": client.bearer,
            "refresh token": {"cookie": f"{COOKIE}={client.refresh_token}"},
            "cookie": {"cookie": f"__Host-interlock={client.refresh_token}"},
            "marker": {"cookie": f"{COOKIE}={marker}"},
        }[credential]
        answer = await client.http.get("/console/numbers", headers=MODULE | shown)
        assert answer.status_code == 401


@scenario()
async def test_the_cookie_is_for_this_host_and_no_script(server: ServerProcess, secret: str) -> None:
    client, _ = await in_groups(server.url, secret, LOOK)
    async with client, Operator(server.url) as operator:
        answer = await operator.sign_in(client.email)
        (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith(f"{COOKIE}=")]
        parts = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "secure", "samesite=strict", "path=/"} <= parts
        assert 0 < int(next(part for part in parts if part.startswith("max-age=")).split("=")[1]) <= 3600
        assert answer.headers["location"] == "/console"


@scenario()
async def test_the_consoles_cookie_opens_nothing_else(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, ACT) as operator:
        visit = {"x-forwarded-method": "GET", "sec-fetch-site": "none"}
        for headers in (
            {"authorization": f"Bearer {operator.cookie}"},
            {"cookie": f"__Host-interlock={operator.cookie}", "sec-fetch-site": "same-origin"},
        ):
            assert (await operator.http.get("/api/session", headers=headers)).status_code == 401
            assert (await operator.http.get(FORWARD_AUTH, headers=headers | visit)).status_code == 401
            assert (await operator.http.get("/api/admin/sessions", headers=headers)).status_code == 401


@scenario()
async def test_who_may_look_sees_all_and_changes_nothing(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator, await logged_in(server.url) as victim:
        page = await operator.get(f"/console/sessions/{victim.session_id}")
        assert page.status_code == 200
        assert "End this session" not in page.text
        before = records(server.data)
        subject = (await victim.session())["subject"]
        for act in (
            f"sessions/{victim.session_id}/end",
            f"accounts/{subject}/disable",
            f"accounts/{subject}/enable",
            f"accounts/{subject}/end-sessions",
            "executions/exe_1/cancel",
            "webhooks/billing/enable",
            "webhooks/billing/replay",
        ):
            assert (await operator.post(f"/console/{act}")).status_code == 403, act
        assert records(server.data) == before
        assert (await victim.session())["state"] == "authenticated"


@scenario()
async def test_an_act_is_recorded_in_the_operators_name(server: ServerProcess, secret: str) -> None:
    """Its owner reads that an administrator did it, and not which one."""
    client, subject = await in_groups(server.url, secret, ACT)
    async with client, Operator(server.url) as operator, await logged_in(server.url) as victim:
        await operator.sign_in(client.email)
        answer = await operator.post(f"/console/sessions/{victim.session_id}/end", MODULE)
        assert (answer.status_code, answer.json()["sockets"]) == (200, 0)
        async with Admin(server.url, secret) as admin:
            trail = [each for page in await admin.pages("/audit") for each in page]
        assert [each["actor"] for each in trail if each["instance_id"] == victim.session_id] == [f"admin:{subject}"]
        problem(await victim.request("GET", "/api/session"), 401, "session-ended")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://app.example.org"},
        {},
    ],
)
@scenario()
async def test_another_page_can_not_act(tmp_path: Path, headers: dict[str, str]) -> None:
    """Not even one whose origin the setting `origins` allows, which is for the application; nor what sends no origin at all."""
    with running_server(tmp_path / "data", **SETTINGS, origins="https://app.example.org") as server:
        secret = recorded_admin_token(server.data)
        async with await signed_in(server.url, secret, ACT) as operator, await logged_in(server.url) as victim:
            sent = {"accept": "text/html", **headers}
            path = f"/console/sessions/{victim.session_id}/end"
            assert (await operator.http.post(path, headers=sent | operator.shown)).status_code == 403
            assert (await operator.http.post("/console/logout", headers=sent | operator.shown)).status_code == 403
            assert (await operator.http.post("/console/login", headers=sent, data={})).status_code == 403
            assert (await victim.session())["state"] == "authenticated"
            assert (await operator.get("/console")).status_code == 200


@scenario()
async def test_a_login_goes_on_to_pages_of_the_console_only(server: ServerProcess, secret: str) -> None:
    client, _ = await in_groups(server.url, secret, LOOK)
    async with client, Operator(server.url) as operator:
        wanted = "/console/sessions?state=connected"
        asked = await operator.get(wanted)
        assert (asked.status_code, asked.headers["location"]) == (303, f"/console/login?next={quote_plus(wanted)}")
        assert (await operator.sign_in(client.email, next=wanted)).headers["location"] == wanted
        for elsewhere in ELSEWHERE:
            answer = await operator.sign_in(client.email, next=elsewhere)
            assert (answer.status_code, answer.headers["location"]) == (303, "/console"), elsewhere


@scenario()
async def test_a_link_on_another_site_leads_to_its_page_after_all(server: ServerProcess, secret: str) -> None:
    """With SameSite=Strict a browser sends no cookie at first, and sends it with the page's own reload."""
    async with await signed_in(server.url, secret, LOOK) as operator:
        cross = OWN_PAGE | {"sec-fetch-site": "cross-site"}
        first = await operator.http.get("/console/log?kind=session", headers=cross)
        assert first.status_code == 200
        assert 'http-equiv="refresh" content="0;url=/console/log?kind=session"' in first.text
        assert "no-store" in first.headers.get("cache-control", "")
        assert (await operator.get("/console/log?kind=session")).status_code == 200


@scenario()
async def test_an_act_needs_a_recent_login(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", **SETTINGS, recent_login_s=0.001) as server:
        secret = recorded_admin_token(server.data)
        async with await signed_in(server.url, secret, ACT) as operator, await logged_in(server.url) as victim:
            path = f"/console/sessions/{victim.session_id}"
            answer = await operator.post(f"{path}/end")
            assert answer.headers["location"].startswith("/console/login?next=%2Fconsole%2Fsessions%2F")
            assert "again=1" in answer.headers["location"]
            problem(await operator.post(f"{path}/end", MODULE), 401, "login-too-old")
            assert (await operator.get(path)).status_code == 200
            assert (await victim.session())["state"] == "authenticated"


@scenario()
async def test_a_new_login_keeps_the_session_and_voids_a_stolen_cookie(server: ServerProcess, secret: str) -> None:
    client, _ = await in_groups(server.url, secret, LOOK)
    async with client, Operator(server.url) as operator, Operator(server.url) as thief:
        await operator.sign_in(client.email)
        thief.cookie = operator.cookie
        assert (await thief.get("/console/numbers", MODULE)).status_code == 200
        await operator.sign_in(client.email)
        assert operator.cookie.partition(".")[0] == thief.cookie.partition(".")[0]
        assert (await thief.get("/console/numbers", MODULE)).status_code == 401
        assert (await operator.get("/console/numbers", MODULE)).status_code == 200


@scenario()
async def test_another_operator_in_the_same_browser_ends_the_former_session(server: ServerProcess, secret: str) -> None:
    (one, _), (other, _) = await in_groups(server.url, secret, LOOK), await in_groups(server.url, secret, LOOK)
    async with one, other, Operator(server.url) as operator, Operator(server.url) as former:
        await operator.sign_in(one.email)
        former.cookie = operator.cookie
        await operator.sign_in(other.email)
        assert (await former.get("/console/numbers", MODULE)).status_code == 401
        assert (await operator.get("/console/numbers", MODULE)).status_code == 200


@scenario()
async def test_signing_out_ends_the_session(server: ServerProcess, secret: str) -> None:
    async with await signed_in(server.url, secret, LOOK) as operator, Admin(server.url, secret) as admin:
        session_id = operator.cookie.partition(".")[0]
        answer = await operator.post("/console/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert (await operator.get("/console/numbers", MODULE)).status_code == 401
        assert (await admin.get(f"/sessions/{session_id}"))["reason"] == "logout"


@scenario()
async def test_an_operators_session_is_short_and_lasts_no_longer(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", **SETTINGS, console_session_s=120) as server:
        secret = recorded_admin_token(server.data)
        async with await signed_in(server.url, secret, LOOK) as operator, Admin(server.url, secret) as admin:
            session_id = operator.cookie.partition(".")[0]
            for _ in range(3):
                assert (await operator.get("/console")).status_code == 200
            ((begun, login),) = [[each["data"] for each in records(server.data) if each["instance_id"] == session_id]]
            assert begun["policy"]["idle_timeout_ms"] == begun["policy"]["absolute_timeout_ms"] == 120_000
            assert login["method"] == "password"
            assert (await admin.get(f"/sessions/{session_id}"))["version"] == 2


@scenario()
async def test_failed_logins_are_limited_as_everywhere(tmp_path: Path) -> None:
    limits = {"limit_login_client": "2/15m", "rate_limit_exempt": ""}
    with running_server(tmp_path / "data", **SETTINGS, **limits) as server:
        client, _ = await in_groups(server.url, recorded_admin_token(server.data), LOOK)
        async with client, Operator(server.url) as visitor:
            wrong = "some other long password"
            statuses = [(await visitor.sign_in(client.email, wrong)).status_code for _ in range(4)]
            assert statuses[:2] == [401, 401]
            assert statuses[3] == 429
            limited = await visitor.sign_in(client.email, PASSWORD)
            assert (limited.status_code, visitor.cookie) == (429, "")
            assert "Password" in limited.text


@pytest.mark.parametrize(
    "body", ["email=a&email=b&password=c", "email=%ff", "{}", "email=a", "email=a&password=b&more=c"]
)
@scenario()
async def test_a_malformed_form_is_refused(server: ServerProcess, body: str) -> None:
    async with Operator(server.url) as visitor:
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await visitor.http.post("/console/login", content=body, headers=OWN_PAGE | form)
        assert answer.status_code == 400
        assert (await visitor.http.post("/console/login", json={}, headers=OWN_PAGE)).status_code == 415


@scenario()
async def test_a_password_change_or_a_lost_group_ends_the_console(server: ServerProcess, secret: str) -> None:
    for lose in ("password", "group", "disable"):
        client, subject = await in_groups(server.url, secret, ACT)
        async with client, Operator(server.url) as operator, Admin(server.url, secret) as admin:
            await operator.sign_in(client.email)
            assert (await operator.get("/console/numbers", MODULE)).status_code == 200
            await _take_away(lose, client, subject, admin)
            status = (await operator.get("/console/numbers", MODULE)).status_code
            assert status == (403 if lose == "group" else 401), lose
            assert (await operator.post("/console/sessions/any/end", MODULE)).status_code == status


async def _take_away(lose: str, client: Client, subject: str, admin: Admin) -> None:
    match lose:
        case "password":
            body = {"current_password": PASSWORD, "new_password": "another correct horse battery"}
            (await client.request("POST", "/api/auth/password", json=body)).raise_for_status()
        case "group":
            (await admin.http.put(f"/accounts/{subject}/groups", json={"groups": ["staff"]})).raise_for_status()
        case _:
            (await admin.http.post(f"/accounts/{subject}/disable")).raise_for_status()
