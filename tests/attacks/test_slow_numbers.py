"""Bodies with numbers that are slow to parse: an unauthenticated client could block everyone with them."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from interlock import Context, Realm
from tests.support.client import PASSWORD, new_email
from tests.support.errands import REALM, Numbers
from tests.support.server import running_server


def test_no_json_number_takes_longer_to_parse_than_others(tmp_path: Path) -> None:
    """The event loop parses untrusted bodies, and some numbers take a thousand times as long to convert exactly."""

    def fastest(number: str) -> float:
        body = f"[{','.join([number] * (64_000 // (len(number) + 1)))}]"
        answers = [
            http.post("/api/auth/login", content=body, headers={"content-type": "application/json"}) for _ in range(7)
        ]
        assert {answer.status_code for answer in answers} == {400}
        return min(answer.elapsed.total_seconds() for answer in answers)

    with running_server(tmp_path / "data") as server, httpx.Client(base_url=server.url, timeout=30) as http:
        usual = fastest("0.12")
        assert all(fastest(number) < 5 * usual for number in ("1e308", "9e300", "5e-324"))


@pytest.mark.parametrize("name", ["errands.add", "errands.say", "none.such"])
def test_no_number_in_an_intents_parameters_does_either(tmp_path: Path, name: str) -> None:
    """Whoever has an account sends them: for numbers or for a text, and to an intent that does not exist."""

    def fastest(number: str) -> float:
        numbers = ",".join([number] * (40_000 // (len(number) + 1)))
        times = []
        for attempt in range(7):
            body = (
                f'{{"id": "{number} {attempt}", "name": "{name}", "parameters": {{"numbers": [{numbers}], "text": 0}}}}'
            )
            if name == "errands.add":
                body = body.replace(', "text": 0', "")
            answer = http.post("/api/intents", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == {"errands.add": 202, "errands.say": 400, "none.such": 404}[name], answer.text
            times.append(answer.elapsed.total_seconds())
        return min(times)

    with (
        running_server(tmp_path / "data", realm=REALM) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        credentials = {"email": new_email(), "password": PASSWORD}
        http.post("/api/auth/register", json=credentials).raise_for_status()
        token = http.post("/api/auth/login", json=credentials).raise_for_status().json()["access_token"]
        http.headers["authorization"] = f"Bearer {token}"
        usual = fastest("0.12")
        assert all(fastest(number) < 10 * usual for number in ("1e308", "9e300", "5e-324"))


def test_no_number_in_a_result_does_either() -> None:
    """Code may return what its client has sent, and the event loop checks it against the declared type."""
    realm = Realm("numbers")

    @realm.intent("numbers.echo")
    async def echo(_context: Context, parameters: Numbers) -> Numbers:
        return parameters

    def fastest(number: float) -> float:
        times = []
        for _ in range(7):
            begun = time.thread_time()
            realm.intents["numbers.echo"].encode_result(Numbers([number] * 6_000))
            times.append(time.thread_time() - begun)
        return min(times)

    usual = fastest(0.12)
    assert all(fastest(number) < 10 * usual for number in (1e308, 9e300, 5e-324))
