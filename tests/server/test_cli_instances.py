"""``interlock sessions``, ``accounts`` and ``executions``: lists of the log's file, and acts through a running server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock.machine.session.commands import Revoke
from interlock.server.cli.main import main
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from tests.support.admin import recorded_admin_token
from tests.support.client import logged_in
from tests.support.running import scenario
from tests.support.server import running_server
from tests.support.steps import Story

TERMINAL = {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}


def run(*arguments: object, **environment: str) -> Result:
    nothing = {"INTERLOCK_DATA": None, "INTERLOCK_URL": None, "INTERLOCK_ADMIN_TOKEN": None}
    return CliRunner().invoke(main, [str(each) for each in arguments], env={**nothing, **environment})


def rows(outcome: Result) -> list[dict[str, object]]:
    assert outcome.exit_code == 0, outcome.output
    return [json.loads(line) for line in outcome.stdout.splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of five sessions, begun one after the other: of them one ended, and one has a socket."""
    folder = tmp_path_factory.mktemp("log")

    async def write() -> None:
        async with open_surface(folder, max_waiting=100, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            ended = Story("session-1")
            await surface.log.append(ended.begin("ada", "node-1"))
            await surface.log.append(ended.tell(Revoke("logout")))
            await surface.log.append(Story("session-2").begin("bob", "node-1"))
            for number in (3, 4, 5):
                await surface.log.append(Story(f"session-{number}").begin())

    asyncio.run(write())
    return folder


def ids(outcome: Result) -> set[object]:
    return {row["session_id"] for row in rows(outcome)}


def test_sessions_are_filtered_as_in_the_api(written: Path) -> None:
    def found(*options: object) -> set[object]:
        return ids(run("sessions", "--json", *options, "--data", written))

    assert found() == {f"session-{number}" for number in range(1, 6)}
    assert found("--state", "connected") == {"session-2"}
    assert found("--account", "ada") == found("--reason", "logout") == {"session-1"}
    assert found("--updated-to", "2020-01-01T00:00:00Z") == set()
    assert found("--created-from", "1970-01-01T00:00:00Z", "--state", "created") == {f"session-{n}" for n in (3, 4, 5)}


def test_every_session_is_on_exactly_one_page(written: Path) -> None:
    seen: list[object] = []
    after: list[str] = []
    while True:
        page = run("sessions", "--json", "--limit", "2", *after, "--data", written)
        seen += [row["session_id"] for row in rows(page)]
        if "more: " not in page.stderr:
            break
        after = page.stderr.removeprefix("more: ").split()
    assert sorted(map(str, seen)) == [f"session-{number}" for number in range(1, 6)]


def test_a_list_fits_80_columns_of_a_terminal_and_has_one_line_each_in_a_pipe(written: Path) -> None:
    shown = run("sessions", "--data", written, **TERMINAL).stdout.splitlines()
    assert max(map(len, shown)) <= 80
    assert any(line.strip() == "logout" for line in shown)
    piped = run("sessions", "--data", written, COLUMNS="80").stdout.splitlines()
    (line,) = [line for line in piped if "session-1" in line]
    assert line.split()[1] == "expired"
    assert line.split()[-2:] == ["ada", "logout"]


def test_an_option_of_the_list_before_a_command_is_an_error(written: Path) -> None:
    outcome = run("sessions", "--data", written, "end", "session-1")
    assert outcome.exit_code == 2
    assert "--data belongs to the list, not to end" in outcome.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--account", "nobody@example.org"], "no account has the address"),
        (["--after", "x"], "is not a place in a list"),
        (["--created-from", "2020-01-01"], "has no time zone"),
        (["--created-from", "2020-01-01T00:00Z", "--updated-to", "2020-01-01T00:00Z"], "only with --account"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(written: Path, options: list[str], said: str) -> None:
    outcome = run("sessions", "--data", written, *options, COLUMNS="200")
    assert (outcome.exit_code, said in outcome.output) == (2, True), outcome.output


def test_an_act_without_a_secret_or_a_server_says_what_is_missing() -> None:
    without = run("sessions", "end", "x")
    assert (without.exit_code, "set INTERLOCK_ADMIN_TOKEN" in without.stderr) == (2, True)
    nowhere = run("sessions", "end", "x", "--url", "http://127.0.0.1:1", INTERLOCK_ADMIN_TOKEN="ilk_admin_x")
    assert (nowhere.exit_code, "no server answers at http://127.0.0.1:1" in nowhere.stderr) == (2, True)


@scenario(120)
async def test_acts_go_through_the_server_that_lists_read_beside(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        environment = {"INTERLOCK_ADMIN_TOKEN": recorded_admin_token(server.data), "INTERLOCK_URL": server.url}

        async def act(*arguments: object) -> Result:
            return await asyncio.to_thread(run, *arguments, **environment)

        def listed(*arguments: object) -> dict[str, object]:
            (row,) = rows(run(*arguments, "--json", "--data", server.data))
            return row

        async with await logged_in(server.url) as client:
            session_id, subject = (await client.session())["session_id"], (await client.session())["subject"]
            ended = await act("sessions", "end", session_id)
            assert ended.exit_code == 0, ended.output
            assert ended.stdout.splitlines()[0] == f"session {session_id} has ended"
            assert run("verify", server.data, "--receipt", ended.stdout.split()[-1]).exit_code == 0
            assert listed("sessions", "--account", client.email)["reason"] == "revoked"
            assert (await act("accounts", "groups", subject, "staff", "on-call")).exit_code == 0
            disabled = await act("accounts", "disable", subject, "--json")
            assert json.loads(disabled.stdout)["state"] == "disabled"
            account = listed("accounts", "--email", client.email.upper())
            assert (account["state"], account["groups"]) == ("disabled", ["on-call", "staff"])
            assert (await act("accounts", "enable", subject)).stdout.startswith(f"account {subject} is active")
            async with await logged_in(server.url) as again:
                deleted = await act("accounts", "delete", (await again.session())["subject"], "--yes")
            assert "sessions ended: 1" in deleted.stdout
            for refused in (("sessions", "end", "../accounts"), ("executions", "cancel", "nobody's")):
                outcome = await act(*refused)
                assert (outcome.exit_code, "answers 404" in outcome.stderr) == (1, True), outcome.output
            environment["INTERLOCK_ADMIN_TOKEN"] = "ilk_admin_made_up"
            outcome = await act("sessions", "end", session_id)
            assert (outcome.exit_code, "answers 401" in outcome.stderr) == (1, True), outcome.output
