"""The signed head on disk: it follows the log and never leads, and a start refuses a log that ends before it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from interlock.machine.ledger import EMPTY, Receipt
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.heads import Head, check_head, sign_head
from interlock.server.guard.keys.keyset import load_keys, load_public_keys
from tests.support.log import BEGUN, interlock, record_count, records, verify
from tests.support.metrics import log_rows
from tests.support.server import ServerProcess, running_server
from tests.support.tampering import cut, rechain, shell

SESSIONS = 6
RECORDS = BEGUN + SESSIONS


def head_of(data: Path, path: Path | None = None) -> Head:
    """Read the head beside the log, and verify its signature."""
    return check_head((path or data / "interlock.head").read_text().strip(), load_public_keys(data / "keys"))


def says(data: Path, receipt: Receipt) -> bool:
    return head_of(data).receipt == receipt


def begin(server: ServerProcess, times: int = 1) -> list[Receipt]:
    """Create sessions one after the other, and return their receipts."""
    with httpx.Client(base_url=server.url) as client:
        return [Receipt(**client.post("/api/session").raise_for_status().json()["receipt"]) for _ in range(times)]


def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def told(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    """Return what a server with ``log_json`` logged of ``event``."""
    return [row for row in log_rows(server) if row["event"] == event]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder that a server left cleanly."""
    data = tmp_path_factory.mktemp("head") / "data"
    with running_server(data) as server:
        begin(server, SESSIONS)
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "data")
    return tmp_path / "data"


def start(data: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Try to start a server that must refuse."""
    return interlock("serve", "--port", "0", "--data", data, *flags)


def test_a_clean_stop_signs_the_last_record(data: Path) -> None:
    assert head_of(data).receipt == Receipt(RECORDS, records(data)[-1]["digest"])
    assert (data / "interlock.head").stat().st_mode & 0o777 == 0o600
    assert not (data / "interlock.head.new").exists()


def test_the_head_follows_the_log_while_the_server_runs(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        for _ in range(3):
            last = begin(server, 4)[-1]
            until((server.data / "interlock.head").exists)
            until(partial(says, server.data, last))
        verify(server.data)


@pytest.mark.checks("durability")
def test_after_a_kill_the_head_lags_and_never_leads(tmp_path: Path) -> None:
    """Killed under load, again and again: each start accepts the head, and keeps everything acknowledged."""

    async def load(url: str, told: list[Receipt]) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            while True:
                try:
                    told.append(Receipt(**(await client.post("/api/session")).json()["receipt"]))
                except httpx.TransportError:
                    return

    async def scenario(server: ServerProcess, told: list[Receipt], more: int) -> None:
        enough = len(told) + more
        clients = [asyncio.create_task(load(server.url, told)) for _ in range(8)]
        while len(told) < enough:  # noqa: ASYNC110  # no event is available to await
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*clients)

    server = ServerProcess(tmp_path / "data", {})
    told: list[Receipt] = []
    for more in (60, 111, 173):
        server.start()
        asyncio.run(scenario(server, told, more))
        assert head_of(server.data).position <= record_count(server.data)
        verify(server.data)
    lines = "\n".join(json.dumps({"position": each.position, "digest": each.digest}) for each in told)
    outcome = subprocess.run(
        [sys.executable, "-m", "interlock.server.cli", "verify", str(server.data), "--receipt", "-"],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.count("receipt ") == len(told) > 0
    server.start()
    server.stop()
    assert head_of(server.data).position == record_count(server.data)


@contextmanager
def lagging_head(data: Path, records: int) -> Iterator[ServerProcess]:
    """Return a server that was killed when its head was ``records`` behind. It may be started again."""
    server = ServerProcess(data, {"log_json": True})
    server.start()
    try:
        until(lambda: not head_of(data).final)
        lagging = (data / "interlock.head").read_text()
        begin(server, records)
    finally:
        server.kill()
    (data / "interlock.head").write_text(lagging)
    yield server
    if server.process is not None:
        server.stop()


def _rewrite(data: Path) -> None:
    with shell(data) as log:
        log.execute("UPDATE transitions SET actor = 'mallory' WHERE position = 2")
        rechain(log)


def _empty(data: Path) -> None:
    for path in data.glob("interlock.db*"):
        path.unlink()


def _of_other_keys(data: Path) -> None:
    shutil.rmtree(data / "keys")


def _unreadable(data: Path) -> None:
    (data / "interlock.head").unlink()
    (data / "interlock.head").mkdir()


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a log that was cut": (
        lambda data: cut(data, RECORDS - 2),
        f"the log ends at record {RECORDS - 2}; its signed head says {RECORDS}: the last 2 records were removed",
    ),
    "no log": (
        _empty,
        f"it covers {RECORDS} records, and there is no log at ",
    ),
    "a log that was rewritten": (_rewrite, f"record {RECORDS} has another digest than its signed head says"),
    "a head that is garbage": (lambda data: (data / "interlock.head").write_text("garbage"), "it is not a signed head"),
    "a head that is empty": (lambda data: (data / "interlock.head").write_text(""), "it is not a signed head"),
    "a head that can't be read": (_unreadable, "it can't be read: Is a directory"),
    "no head": (
        lambda data: (data / "interlock.head").unlink(),
        f"there is none, and the log holds {RECORDS} records",
    ),
    "a head of other keys": (_of_other_keys, "it is signed by an unknown key"),
}


@pytest.mark.parametrize(("spoil", "says"), REFUSED.values(), ids=REFUSED)
def test_a_start_refuses_a_mismatched_head_and_says_what_to_do(
    data: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(data)
    before = {
        path: path.read_bytes()
        for path in data.glob("interlock.*")
        if path.suffix in {".db", ".head"} and path.is_file()
    }
    outcome = start(data)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    line = outcome.stderr.splitlines()[-1]
    assert line.startswith(f"interlock: {data}/interlock.head: {says}")
    assert "--new-head" in line
    assert "interlock verify" in line
    assert {path: path.read_bytes() for path in before} == before, "everything is left as it was found"
    if (data / "interlock.head").is_dir():
        (data / "interlock.head").rmdir()
    # An operator who knows the reason overrides it.
    with running_server(data, new_head=True) as server:
        begin(server)
    with running_server(data) as server:
        begin(server)
    assert head_of(data).position == record_count(data)


def test_the_new_head_setting_signs_a_log_again(data: Path) -> None:
    with running_server(data, new_head=True, log_json=True) as server:
        until(lambda: bool(told(server, "head.replaced")))
    (replaced,) = told(server, "head.replaced")
    path = str(data / "interlock.head")
    assert (replaced["level"], replaced["path"], replaced["records"]) == ("warning", path, RECORDS)


def test_a_killed_servers_log_without_its_head_is_refused(data: Path) -> None:
    server = ServerProcess(data, {})
    server.start()
    begin(server)
    server.kill()
    (data / "interlock.head").unlink()
    refused = start(data)
    assert refused.returncode == 2
    assert f" {RECORDS + 1} records" in refused.stderr
    assert not (data / "interlock.head").exists(), "nothing was signed"


def test_a_log_has_a_head_before_its_first_record(tmp_path: Path) -> None:
    """A server that is killed before it has signed its first record starts again."""
    server = ServerProcess(tmp_path / "data", {"log_json": True})
    server.start()
    begin(server, 2)
    server.kill()
    of_nothing = sign_head(EMPTY, load_keys(server.data / "keys").signing, SystemClock().now_ms(), final=False)
    (server.data / "interlock.head").write_text(of_nothing)
    assert f"; {BEGUN + 2} more " in interlock("verify", server.data, "--require-head").stdout
    server.start()
    begin(server)
    server.stop()
    (behind,) = told(server, "head.behind")
    assert (behind["records"], behind["signed"]) == (BEGUN + 2, 0)
    assert head_of(server.data).position == BEGUN + 3


def test_starts_of_consistent_logs_report_nothing_about_the_head(tmp_path: Path) -> None:
    for count in (0, 1, 1):
        with running_server(tmp_path / "data", log_json=True) as server:
            begin(server, count)
        assert not told(server, "head.replaced")
        assert not told(server, "head.behind")


def test_a_start_accepts_a_head_that_lags_as_after_a_crash(data: Path) -> None:
    with lagging_head(data, 3) as server:
        outcome = interlock("verify", data)
        assert f"ok: {RECORDS + 3} records" in outcome.stdout
        assert f"record {RECORDS} " in outcome.stdout
        assert "; 3 more " in outcome.stdout
        server.start()
    (behind,) = told(server, "head.behind")
    assert (behind["level"], behind["records"], behind["signed"]) == ("warning", 3, RECORDS)
    verify(data)


def test_the_head_can_be_on_another_disk(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running_server(tmp_path / "data", head_file=elsewhere / "the.head") as server:
        begin(server, 2)
    assert not (server.data / "interlock.head").exists()
    assert head_of(server.data, elsewhere / "the.head").position == BEGUN + 2


def test_a_first_start_needs_a_place_for_the_head(tmp_path: Path) -> None:
    """Without its first head, the second start would refuse the log."""
    refused = start(tmp_path / "data", "--head-file", str(tmp_path / "elsewhere" / "the.head"))
    assert refused.returncode == 2
    assert "the.head " in refused.stderr
    (tmp_path / "elsewhere").mkdir()
    with running_server(tmp_path / "data", head_file=tmp_path / "elsewhere" / "the.head") as server:
        begin(server)


def _made(draft: Path) -> bool:
    """Return whether the folder ``draft`` could be made: not while the server is writing a head."""
    try:
        draft.mkdir()
    except FileExistsError:
        return False
    return True


def test_an_unwritable_head_stops_nothing_and_is_logged_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True) as server:
        draft = server.data / "interlock.head.new"
        until(lambda: _made(draft))
        begin(server, 5)
        until(lambda: bool(told(server, "head.failed")))
        draft.rmdir()
        until(lambda: head_of(server.data).position == BEGUN + 5)
    (failed,) = told(server, "head.failed")
    assert (failed["level"], "Is a directory" in failed["error"]) == ("error", True)
