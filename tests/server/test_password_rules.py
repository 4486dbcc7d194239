"""The password rules over a real server, at both places where one is set: registration and change."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest

from tests.support.asynchronous import asynchronous
from tests.support.client import PASSWORD, logged_in, new_email
from tests.support.server import ServerProcess, running_server

LISTED = "kitten-orbit-lamp-seven"
TAKEN, REFUSED = (201, 200), (422, 422)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server with its own name, words and list: each makes a password easy that is not easy elsewhere."""
    folder = tmp_path_factory.mktemp("rules")
    listed = folder / "listed.txt"
    listed.write_text(f"{LISTED}\n")
    with running_server(
        folder / "data",
        issuer="https://login.blorbo.example",
        audience="quuxly",
        password_context_words="Frobnitz GmbH, zorkmid",
        password_blocklist=listed,
    ) as process:
        yield process


async def answers(server: ServerProcess, password: str) -> tuple[int, int]:
    """Return the answers to a registration with ``password`` and to a change to it. It logs in exactly if they succeed."""
    email = new_email()
    async with await logged_in(server.url) as client:
        registered = await client.register(email, password)
        body = {"current_password": PASSWORD, "new_password": password}
        changed = await client.request("POST", "/api/auth/password", json=body)
        for answer, whose in ((registered, email), (changed, client.email)):
            assert (await client.sibling().log_in(whose, password)).is_success == answer.is_success
    return registered.status_code, changed.status_code


@pytest.mark.asvs("6.2.1")
@asynchronous
async def test_a_password_of_14_characters_is_refused_and_of_15_accepted(server: ServerProcess) -> None:
    assert await answers(server, "kW83-vvQe/pL2x") == REFUSED
    assert await answers(server, "kW83-vvQe/pL2xz") == TAKEN


@pytest.mark.asvs("6.2.5")
@pytest.mark.parametrize(
    "password",
    [
        "zxqjvwkpbfghtdlm",
        "ZXQJVWKPBFGHTDLM",
        "83920174650918273645",
        "\u0437\u0435\u043b\u0451\u043d\u044b\u0439 \u0447\u0430\u0439 \u0438 \u043b\u0443\u043d\u0430",
    ],
)
@asynchronous
async def test_a_password_may_have_characters_of_one_kind(server: ServerProcess, password: str) -> None:
    assert await answers(server, password) == TAKEN


@pytest.mark.asvs("6.2.9")
@pytest.mark.parametrize("length", [64, 65, 1024])
@asynchronous
async def test_a_long_password_is_accepted(server: ServerProcess, length: int) -> None:
    assert await answers(server, (PASSWORD + " and a tail" * 100)[:length]) == TAKEN


@pytest.mark.asvs("6.2.9")
@asynchronous
async def test_a_long_decomposed_password_is_accepted(server: ServerProcess) -> None:
    # U+1F82 decomposes to four code points, the maximum.
    longest = (PASSWORD + "\u1f82" * 1024)[:1024]
    assert await answers(server, unicodedata.normalize("NFD", longest)) == TAKEN


@pytest.mark.asvs("6.2.8")
@asynchronous
async def test_only_the_exact_password_logs_in(server: ServerProcess) -> None:
    typed = " Gr\u00fcne Wiese \u2460 im Mai 71x "
    wrong = [typed.strip(), typed.rstrip(), typed.lower(), typed.swapcase(), typed[:-1], typed.replace("\u2460", "1")]
    async with await logged_in(server.url) as client:
        email = new_email()
        (await client.register(email, typed)).raise_for_status()
        for each in wrong:
            assert (await client.sibling().log_in(email, each)).status_code == 401
        for each in (typed, unicodedata.normalize("NFD", typed)):
            assert (await client.sibling().log_in(email, each)).status_code == 200


@pytest.mark.asvs("6.2.4", "6.2.12")
@pytest.mark.parametrize("password", ["passwordpassword", "Password12345678", "qwertyuiopasdfghjkl", "iloveyouforever"])
@asynchronous
async def test_a_common_password_is_refused(server: ServerProcess, password: str) -> None:
    assert await answers(server, password) == REFUSED


@pytest.mark.asvs("6.2.11")
@pytest.mark.parametrize("password", ["blorbo gardenia", "quuxly gardenia", "Zorkmid gardenia", "frobnitz-gmbh-77"])
@asynchronous
async def test_a_password_made_of_this_servers_words_is_refused(server: ServerProcess, password: str) -> None:
    assert await answers(server, password) == REFUSED


@pytest.mark.asvs("6.2.12")
@asynchronous
async def test_a_password_on_the_configured_list_is_refused(server: ServerProcess) -> None:
    assert await answers(server, LISTED) == REFUSED
    assert await answers(server, "kitten-orbit-lamp-eight") == TAKEN
