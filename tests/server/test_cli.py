"""The command line, as a user types it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pysqlite3
import pytest
from click.testing import CliRunner, Result

from interlock.machine.session.commands import Revoke
from interlock.server.cli.main import main
from interlock.server.settings_loading import setting_rows
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from interlock.spec.export import LIFECYCLES, artefacts
from tests.support.client import closed, logged_in
from tests.support.log import BEGUN, records
from tests.support.server import ServerProcess, check_trace, new_trace, running_server
from tests.support.steps import Story

SESSION = "the-session-we-look-at"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of 1,003 sessions: one used and ended, two live ones, and a thousand others."""
    folder = tmp_path_factory.mktemp("log")

    async def write() -> None:
        async with open_surface(folder, max_waiting=10_000, on_failure=pytest.fail, supervisor=Supervisor()) as surface:
            story = Story(SESSION)
            await surface.log.append(story.begin("ada", "node-1"))
            await surface.log.append(story.tell(Revoke("logout")))
            await surface.log.append(Story("living").begin("bob", "node-1"))
            await surface.log.append(Story("another").begin())
            await asyncio.gather(*(surface.log.append(Story().begin()) for _ in range(1000)))

    asyncio.run(write())
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Return a copy to tamper with."""
    copy = tmp_path / "log"
    shutil.copytree(written, copy)
    return copy


def run(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env={"INTERLOCK_DATA": None, **environment})


def test_help_names_every_command_and_every_setting() -> None:
    told = run("--help").output
    for command in ("serve", "transitions", "replay", "verify", "diagram", "export"):
        assert command in told
    told = re.sub(r"\s+", " ", run("serve", "--help").output.replace("│", " "))
    for row in setting_rows():
        assert row.flag in told
        assert f"env: {row.variable}" in told
        assert row.description.split(".")[0][:40] in told
    assert "cheap" not in told.lower(), "what only tests may choose is no flag"


def test_the_version_is_printed() -> None:
    assert run("--version").output.startswith("interlock, version ")


def test_transitions_are_printed_as_a_table(written: Path) -> None:
    outcome = run("transitions", SESSION, "--data", written, COLUMNS="200")
    assert outcome.exit_code == 0
    assert SESSION in outcome.output
    for word in ("create", "authenticate", "connect", "revoke", "connected → expired", "ada", '"reason":"logout"'):
        assert word in outcome.output
    assert [line.split()[1] for line in outcome.output.splitlines() if re.match(r"│ \d", line)] == ["1", "2", "3", "4"]


def test_transitions_are_printed_as_json_lines(written: Path) -> None:
    outcome = run("transitions", SESSION, "--json", INTERLOCK_DATA=str(written))
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [row["event"] for row in rows] == ["create", "authenticate", "connect", "revoke"]
    assert [row["version"] for row in rows] == [1, 2, 3, 4]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rows[0]["at"])
    assert re.fullmatch(r"[0-9a-f]{64}", rows[0]["digest"])


def test_transitions_of_an_unknown_session_is_an_error(written: Path) -> None:
    outcome = run("transitions", "nobody", "--data", written)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr == f"interlock: Instance not found in {written / 'interlock.db'}\n"


@pytest.mark.parametrize("command", [("transitions", "x"), ("replay", "x"), ("verify",), ("export",)])
def test_a_missing_log_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    outcome = run(*command, "--data", tmp_path / "nowhere")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert f"{tmp_path / 'nowhere'}\n" in outcome.stderr
    assert not (tmp_path / "nowhere").exists()


def test_verify_accepts_a_valid_log(written: Path) -> None:
    for arguments in ((written,), (written / "interlock.db",), ("--data", written)):
        outcome = run("verify", *arguments)
        assert outcome.exit_code == 0, outcome.output
        assert outcome.stdout.startswith("ok: 1008 records")


def tamper(folder: Path, *statements: str) -> None:
    """Edit the log like somebody with a shell and time, who first removes the triggers."""
    with closing(pysqlite3.connect(str(folder / "interlock.db"), isolation_level=None)) as shell:
        for (name,) in shell.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            shell.execute("DROP TRIGGER " + name)
        for statement in statements:
            shell.execute(statement)


FAULTS = {
    "data edited": (
        "UPDATE transitions SET data = json_set(data, '$.subject', 'eve') WHERE position = 2",
        "record 2: digest does not match",
    ),
    "a time edited": ("UPDATE transitions SET at_ms = at_ms + 1 WHERE position = 700", "record 700: digest"),
    "a digest edited": ("UPDATE transitions SET digest = zeroblob(32) WHERE position = 3", "record 3: digest"),
    "a record removed": ("DELETE FROM transitions WHERE position = 500", "record 501: follows record 499"),
    "the first record removed": ("DELETE FROM transitions WHERE position = 1", "record 2: follows record 0"),
    "the last record removed": (
        "DELETE FROM transitions WHERE position = 1008",
        "record 1007: the projection has 1003 instances, the log 1002",
    ),
    "a projection edited": (
        "UPDATE instances SET owner = 'eve' WHERE instance_id = 'living'",
        "the projection of session living differs",
    ),
    "an ended projection edited": (
        "UPDATE instances SET reason = 'idle' WHERE instance_id = 'the-session-we-look-at'",
        f"record 4: the projection of session {SESSION} differs",
    ),
    "a projection that is garbage": (
        "UPDATE instances SET fold = 'garbage' WHERE instance_id = 'living'",
        "the projection of session living differs",
    ),
    "a projection removed": (
        "DELETE FROM instances WHERE instance_id = 'another'",
        "session another is missing from the projection",
    ),
    "a projection too many": (
        (
            "CREATE TEMP TABLE ghost AS SELECT * FROM instances LIMIT 1; UPDATE ghost SET instance_id = 'ghost';"
            " INSERT INTO instances SELECT * FROM ghost"
        ),
        "record 1008: the projection has 1004 instances, the log 1003",
    ),
}


@pytest.mark.parametrize(("statement", "fault"), FAULTS.values(), ids=FAULTS)
def test_verify_names_the_first_fault(folder: Path, statement: str, fault: str) -> None:
    tamper(folder, *statement.split("; "))
    outcome = run("verify", folder)
    assert outcome.exit_code == 1, outcome.output
    assert outcome.stdout == ""
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("fault at ")]
    assert fault in line


def test_verify_names_an_unreadable_record(folder: Path) -> None:
    tamper(folder, "UPDATE transitions SET event = 'launch' WHERE position = 1")
    for command in (("transitions", SESSION, "--data", folder), ("export", folder)):
        outcome = run(*command)
        assert outcome.exit_code == 1
        assert re.search(r"record 1: .*'launch'", outcome.stderr)


def _other_programs(path: Path) -> None:
    path.unlink()
    with closing(pysqlite3.connect(str(path))) as other:
        other.execute("CREATE TABLE notes (body TEXT)")
        other.commit()


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "another program's": _other_programs,
    "garbage": lambda path: path.write_bytes(os.urandom(10_000)),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_verify_of_an_unreadable_file_is_an_error(folder: Path, spoil: Callable[[Path], object]) -> None:
    spoil(folder / "interlock.db")
    outcome = run("verify", folder)
    assert outcome.exit_code == 2, outcome.output
    assert outcome.stderr.splitlines()[-1].startswith("interlock: ")
    assert "can't be read" in outcome.stderr


@pytest.mark.parametrize(
    ("lifecycle", "words"),
    [
        ("session", ("reauthenticate", "connected", "stays", "not last_connection")),
        ("account", ("change_password", "disabled", "stays", "current_password")),
        ("secret", ("add", "present", "remove")),
    ],
)
def test_diagram_prints_every_format(lifecycle: str, words: tuple[str, ...]) -> None:
    drawn = {
        kind: run("diagram", lifecycle, "--format", kind, COLUMNS="200").output
        for kind in ("mermaid", "svg", "json", "table")
    }
    generated = artefacts()
    assert drawn["mermaid"] == generated[f"{lifecycle}.mmd"]
    assert drawn["svg"] == generated[f"{lifecycle}.svg"]
    assert drawn["json"] == generated[f"{lifecycle}.json"]
    assert all(word in drawn["table"] for word in words)


def test_the_help_of_diagram_names_every_lifecycle_and_none_is_required() -> None:
    said = run("diagram", "--help", COLUMNS="200").output
    assert "[LIFECYCLE]" in said
    assert [lifecycle.name for lifecycle in LIFECYCLES if lifecycle.name not in said] == []


def test_diagram_defaults_to_session_and_refuses_unknown_lifecycles() -> None:
    assert run("diagram", COLUMNS="200").output == run("diagram", "session", COLUMNS="200").output
    assert run("diagram", "--format", "crayon").exit_code == 2
    unknown = run("diagram", "sesion")
    assert (unknown.exit_code, "'sesion' is not one of session, account" in unknown.output) == (2, True)


def test_export_writes_the_log_as_json_lines(written: Path, tmp_path: Path) -> None:
    outcome = run("export", written)
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [row["position"] for row in rows] == list(range(1, 1009))
    assert run("export", "--data", written, "--output", tmp_path / "log.jsonl").exit_code == 0
    assert (tmp_path / "log.jsonl").read_text() == outcome.stdout
    failed = run("export", tmp_path / "nowhere", "-o", tmp_path / "empty.jsonl")
    assert failed.exit_code == 2
    assert not (tmp_path / "empty.jsonl").exists()


def test_an_unwritable_output_is_an_error(written: Path, tmp_path: Path) -> None:
    outcome = run("export", written, "-o", tmp_path / "no" / "folder")
    assert outcome.exit_code == 2
    assert "No such file or directory" in outcome.stderr


def test_a_full_output_is_an_error(written: Path) -> None:
    outcome = run("export", written, "-o", "/dev/full")
    assert outcome.exit_code == 2
    assert "No space left on device" in outcome.stderr


def serve(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlock.server.cli", "serve", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_an_invalid_setting_stops_the_start(tmp_path: Path) -> None:
    outcome = serve("--data", str(tmp_path / "data"), INTERLOCK_PORT="many")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("interlock: INTERLOCK_PORT: ")
    assert not (tmp_path / "data").exists()


def test_the_tour_is_printed_on_demand(tmp_path: Path) -> None:
    data, trace = tmp_path / "data", new_trace(tmp_path / "data")
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "interlock.server.cli", "serve"),
            *("--demo", "--port", "0", "--data", str(data), "--model-trace", str(trace)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline()]
        while sum(line.startswith("──") for line in said) < 2 and said[-1]:
            said.append(process.stdout.readline())
        process.terminate()
    assert check_trace(trace).lines == 1
    url = said[0].split()[3]
    tour = "".join(said)
    assert f"URL={url}" in tour
    for call in ("/api/session", "/api/auth/register", "/api/auth/login", "/api/connect", "/api/session/transitions"):
        assert call in tour


def test_logs_are_written_as_json_lines(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True, log_level="debug") as server:
        pass
    rows: list[dict[str, Any]] = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    events = {row["event"]: row for row in rows}
    assert {"server.ready", "server.stopped", "passwords.unprotected"} <= set(events)
    ready = events["server.ready"]
    assert (ready["level"], ready["logger"], ready["orphans_disconnected"]) == ("info", "interlock.server", 0)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", ready["timestamp"])


def test_the_log_level_hides_lower_levels(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_level="error") as server:
        pass
    assert server.log_path.read_text() == ""


def test_a_server_listens_on_ipv6(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", host="::1") as server:
        assert server.url.startswith("http://[::1]:")


def test_sigterm_drains_the_server_and_exits_with_status_0(tmp_path: Path) -> None:
    async def scenario(server: ServerProcess) -> None:
        async with await logged_in(server.url) as client, client.connect() as socket:
            await socket.recv()
            status = asyncio.create_task(asyncio.to_thread(server.stop))
            assert await closed(socket) == (1001, "draining")
            assert await status == 0

    server = ServerProcess(tmp_path / "data", {})
    server.start()
    asyncio.run(scenario(server))
    assert [row["event"] for row in records(server.data)][BEGUN:] == [
        "register",
        "create",
        "authenticate",
        "connect",
        "disconnect",
    ]
    assert check_trace(server.trace).appends == 4


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["verfy"], "verify"), (["keys", "lst"], "list"), (["verify", "--requir-head"], "--require-head")],
)
def test_a_misspelt_command_or_option_is_answered_with_the_right_one(typed: list[str], meant: str) -> None:
    outcome = run(*typed)
    assert outcome.exit_code == 2
    assert f"Did you mean '{meant}'?" in outcome.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_by_the_printed_script(shell: str) -> None:
    script = run("completion", shell).stdout
    assert f"_INTERLOCK_COMPLETE={shell}_complete" in script
    typed = {"COMP_WORDS": "interlock ver", "COMP_CWORD": "ver" if shell == "fish" else "1"}
    asked = CliRunner().invoke(
        main, [], prog_name="interlock", env={"_INTERLOCK_COMPLETE": f"{shell}_complete", **typed}
    )
    assert "verify" in asked.output
    assert "backup" not in asked.output


def test_a_start_says_where_the_data_is_and_what_to_do_next(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "interlock.server.cli", "serve", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(
        [*command, "--origins", "https://app.example.org"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(5)]
        process.terminate()
    assert said[0].startswith("Interlock listens on http://127.0.0.1:")
    assert [line.split()[0] for line in said[1:4]] == ["data", "origins", "next"]
    assert str(tmp_path / "data") in said[1]
    assert "https://app.example.org" in said[2]
    assert "interlock doctor" in said[4]
