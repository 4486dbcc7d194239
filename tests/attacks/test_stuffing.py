"""Credential stuffing against a real server, from one address and from many, while the owner can log in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.support.admin import Admin, admin_token
from tests.support.client import PASSWORD, new_email
from tests.support.metrics import whole_log
from tests.support.running import scenario
from tests.support.server import ServerProcess, running_server
from tests.support.stored import stored

PER_ADDRESS, PER_CLIENT, PER_ACCOUNT = 20, 5, 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server behind a proxy that sends the client's address, with lower limits of the default kind."""
    with running_server(
        tmp_path_factory.mktemp("stuffing") / "data",
        trusted_proxies="127.0.0.1",
        limit_login_address=f"{PER_ADDRESS}/1h",
        limit_login_client=f"{PER_CLIENT}/1h",
        limit_login_account=f"{PER_ACCOUNT}/1h",
        log_json=True,
    ) as process:
        yield process


def device_of(answer: httpx.Response) -> str:
    """Return the device cookie that ``answer`` sets, as it is sent."""
    pairs = [line.partition(";")[0] for line in answer.headers.get_list("set-cookie")]
    return next(pair for pair in pairs if pair.startswith("__Host-interlock-device="))


class Attack:
    """Sends any requests, each from the address it names."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.http = httpx.AsyncClient(base_url=server.url, timeout=60)

    async def log_in(
        self, email: str, password: str, address: str, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return await self.http.post(
            "/api/auth/login",
            json={"email": email, "password": password},
            headers={"X-Forwarded-For": address, **(headers or {})},
        )

    async def account(self) -> str:
        email = new_email()
        body = {"email": email, "password": PASSWORD}
        (await self.http.post("/api/auth/register", json=body)).raise_for_status()
        return email

    async def flood(self, tries: Iterator[tuple[str, str, str]]) -> Counter[int]:
        """Send all of ``tries`` (account, password, address), sixteen at a time. Count the answers by status."""
        statuses: Counter[int] = Counter()

        async def work() -> None:
            for email, password, address in tries:
                statuses[(await self.log_in(email, password, address)).status_code] += 1

        await asyncio.gather(*(work() for _ in range(16)))
        return statuses


def leaked(number: int) -> str:
    return f"a leaked password, number {number}"


@pytest.mark.asvs("6.3.1", "2.4.1")
@scenario()
async def test_stuffing_from_one_address_gets_few_passwords_checked(server: ServerProcess) -> None:
    """A list of leaked pairs, one of them right, tried from one address: after a few, passwords are not even checked."""
    attack = Attack(server)
    async with attack.http:
        victim = await attack.account()
        pairs = [(f"user{number}@leaked.example", leaked(number), "198.51.99.1") for number in range(300)]
        statuses = await attack.flood(iter(pairs))
        assert statuses == {401: PER_ADDRESS, 429: 300 - PER_ADDRESS}
        before = stored(server.data)
        assert (await attack.log_in(victim, PASSWORD, "198.51.99.1")).status_code == 429, "nor is the right one"
        assert stored(server.data) == before, "failures leave nothing in the log of sessions"
        assert (await attack.log_in(victim, PASSWORD, "192.0.2.10")).status_code == 200, "others are not concerned"


@pytest.mark.asvs("6.1.1", "6.3.1", "2.4.1")
@scenario()
async def test_stuffing_one_account_from_many_addresses_locks_no_owner_out(server: ServerProcess) -> None:
    """Few passwords of a distributed attack are checked; the owner is not locked out before, during or after it."""
    attack = Attack(server)
    async with attack.http:
        victim = await attack.account()
        home, office = "192.0.2.20", "203.0.113.5"
        answer = await attack.log_in(victim, PASSWORD, home, {"Origin": server.url})
        cookies = [line.partition(";")[0] for line in answer.headers.get_list("set-cookie")]
        (device,) = [cookie for cookie in cookies if cookie.startswith("__Host-interlock-device=")]

        tries = ((victim, leaked(n), f"198.51.{100 + n // 250}.{n % 250}") for n in range(600))
        flood = asyncio.create_task(attack.flood(tries))
        during = []
        while not flood.done():
            during.append((await attack.log_in(victim, PASSWORD, home)).status_code)
            during.append((await attack.log_in(victim, PASSWORD, office, {"Cookie": device})).status_code)
        assert set(during) == {200}
        assert await flood == {401: PER_ACCOUNT, 429: 600 - PER_ACCOUNT}

        assert (await attack.log_in(victim, PASSWORD, "198.51.103.1")).status_code == 429, "strangers wait"
        assert (await attack.log_in(victim, PASSWORD, home)).status_code == 200, "an address that succeeded before"
        assert (await attack.log_in(victim, PASSWORD, office, {"Cookie": device})).status_code == 200, "a known device"


@pytest.mark.asvs("6.1.1")
@scenario()
async def test_stuffing_from_the_owners_address_leaves_their_device_in(server: ServerProcess) -> None:
    """An attacker in the same house uses up that address's attempts; the owner's browser can still log in."""
    attack = Attack(server)
    async with attack.http:
        victim = await attack.account()
        house = "192.0.2.30"
        answer = await attack.log_in(victim, PASSWORD, house, {"Origin": server.url})
        device = device_of(answer)
        statuses = await attack.flood((victim, leaked(number), house) for number in range(100))
        assert statuses == {401: PER_CLIENT, 429: 100 - PER_CLIENT}
        assert (await attack.log_in(victim, PASSWORD, house)).status_code == 429
        assert (await attack.log_in(victim, PASSWORD, house, {"Cookie": device})).status_code == 200


@pytest.mark.asvs("6.3.1")
@scenario()
async def test_knowing_an_old_password_gives_no_more_attempts(server: ServerProcess) -> None:
    """Device cookies and addresses from before the password change count as a stranger's; the owner's browser is known."""
    attack = Attack(server)
    async with attack.http:
        victim = await attack.account()
        page, hoard = {"Origin": server.url}, []
        for number in range(20):
            answer = await attack.log_in(victim, PASSWORD, f"192.0.2.{100 + number % 8}", page)
            hoard.append(device_of(answer))
        tokens = (await attack.log_in(victim, PASSWORD, "203.0.113.60")).json()
        body = {"current_password": PASSWORD, "new_password": "quite another password"}
        headers = {**page, "X-Forwarded-For": "203.0.113.61", "Authorization": f"Bearer {tokens['access_token']}"}
        changed = await attack.http.post("/api/auth/password", json=body, headers=headers)
        device = device_of(changed.raise_for_status())

        places = [f"192.0.2.{100 + number}" for number in range(8)]
        statuses = Counter(
            [
                *[
                    (
                        await attack.log_in(victim, leaked(n), f"198.51.105.{n % 100}", {"Cookie": hoard[n % 20]})
                    ).status_code
                    for n in range(200)
                ],
                *[(await attack.log_in(victim, leaked(n), places[n % 8])).status_code for n in range(40)],
            ]
        )
        assert statuses == {401: PER_ACCOUNT, 429: 240 - PER_ACCOUNT}
        new = "quite another password"
        assert (await attack.log_in(victim, new, "203.0.113.62")).status_code == 429, "strangers wait"
        assert (await attack.log_in(victim, new, "203.0.113.62", {"Cookie": device})).status_code == 200
        assert (await attack.log_in(victim, new, "203.0.113.61")).status_code == 200, "from where it was changed"


@scenario()
async def test_an_ipv6_64_network_counts_as_one_address(server: ServerProcess) -> None:
    attack = Attack(server)
    async with attack.http:
        tries = ((f"user{n}@v6.example", leaked(n), f"2001:db8:1:1::{n:x}") for n in range(1, 101))
        assert (await attack.flood(tries))[401] == PER_ADDRESS


@scenario()
async def test_login_limits_do_not_reveal_who_has_an_account(server: ServerProcess) -> None:
    attack = Attack(server)
    async with attack.http:
        answers = {}
        for name, email in (("known", await attack.account()), ("unknown", new_email())):
            tries = [await attack.log_in(email, leaked(n), f"203.0.113.{100 + n % 40}") for n in range(PER_ACCOUNT + 5)]
            answers[name] = [(each.status_code, {**each.json(), "detail": ""}) for each in tries]
        # The addresses have failed a second time by then, and have attempts left.
        assert answers["known"] == answers["unknown"]
        assert [status for status, _ in answers["known"]].count(429) == 5


@scenario()
async def test_login_limits_do_not_reveal_who_logs_in_at_a_shared_address(server: ServerProcess) -> None:
    """Unknown account, known elsewhere, known here, known device: a wrong password gets the same answers around the limit."""
    attack = Attack(server)
    async with attack.http:
        shared, page = "192.0.2.90", {"Origin": server.url}
        elsewhere, here, disabled = [await attack.account() for _ in range(3)]
        for email in (here, disabled):
            (await attack.log_in(email, PASSWORD, shared, page)).raise_for_status()
        secret = await asyncio.to_thread(admin_token, server.data)
        async with Admin(server.url, secret) as admin:
            (account,) = await admin.get("/accounts", email=disabled)
            (await admin.http.post(f"/accounts/{account['subject']}/disable")).raise_for_status()

        async def answers() -> list[tuple[int, list[str], dict[str, object]]]:
            tried = [await attack.log_in(each, leaked(1), shared) for each in (new_email(), elsewhere, here, disabled)]
            return [(each.status_code, sorted(each.headers), each.json()) for each in tried]

        before = await answers()
        assert before == [before[0]] * 4
        assert before[0][0] == 401
        await attack.flood((f"user{n}@shared.example", leaked(n), shared) for n in range(PER_ADDRESS))
        for _ in range(PER_CLIENT):
            after = await answers()
            assert after == [after[0]] * 4
            assert after[0][0] == 429
            assert "retry-after" in after[0][1]
        assert (await attack.log_in(here, PASSWORD, shared)).status_code == 429, "its tries here are used up"


@pytest.mark.asvs("16.3.1", "16.2.5")
@scenario()
async def test_failed_logins_are_logged_without_email_address_and_password(
    server: ServerProcess,
) -> None:
    attack = Attack(server)
    async with attack.http:
        victim = await attack.account()
        assert (await attack.log_in(victim, "Kanarienvogel-4711", "192.0.2.40")).status_code == 401
        assert (await attack.log_in(victim.upper(), "Kanarienvogel-4711", "192.0.2.41")).status_code == 401
    log = whole_log(server)
    assert "Kanarienvogel" not in log
    assert victim not in log.lower()
    lines = [line for line in log.splitlines() if '"login.failed"' in line and '"192.0.2.4' in line]
    names = {line.partition('"account": "')[2].partition('"')[0] for line in lines}
    assert len(lines) == 2
    assert len(names) == 1, "the same account by the same name"
