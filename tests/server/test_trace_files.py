"""Trace files: what is accepted, what is refused, and what a kill or a full disk leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from interlock.machine.errors import SettingsError
from interlock.server.settings import Settings
from interlock.server.surface.sqlite.files import LOG_NAME
from interlock.server.telemetry.model_trace import FileTraceWriter, TraceContents
from interlock.server.wiring import open_services
from interlock.spec.model.trace.lines import Append, Line, Open, parse
from tests.support.asynchronous import asynchronous
from tests.support.log import BEGUN
from tests.support.wire import log_in, services_in


def lines(trace: Path) -> list[Line]:
    return [parse(line) for line in trace.read_bytes().splitlines()]


@asynchronous
async def test_a_full_trace_ends_and_the_server_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with services_in(tmp_path) as services:
        trace: Any = services.trace
        full = os.open("/dev/full", os.O_WRONLY)
        own, trace._descriptor = trace._descriptor, full
        session, _ = await log_in(services)
        assert session.version == 2
        trace._descriptor = own
        os.close(full)
    assert capsys.readouterr().out.count("model_trace.ended") == 1


def test_a_partially_written_trace_line_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = FileTraceWriter(tmp_path / "trace.jsonl", "node-1")
    assert trace.begin() == TraceContents()
    trace.go_on(None, None)
    trace.opened("s1", "con_1", 3)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:20]))
    trace.opened("s1", "con_2", 4)
    monkeypatch.undo()
    trace.opened("s1", "con_3", 5)
    trace.close()
    trace.dropped("s1", "con_3", 5)
    (line,) = lines(tmp_path / "trace.jsonl")
    assert isinstance(line, Open)
    assert line.connection == "con_1"


_RECOVER = b'{"type":"recover","node":"node-1","life":"life-1","position":0}\n'


@pytest.mark.parametrize(
    "content",
    [
        b'{"type":"append",no JSON}\n',
        b'{"type":"append","node":"node-1"}\n',
        b"notes\nand the last line has no end",
        b"one line without an end",
        b"\n",
        bytes(4096),
        _RECOVER[:-9],
        _RECOVER + b"notes",
        _RECOVER + bytes(64),
        _RECOVER + b'{"type":"append","node":"node-1"}\n',
    ],
)
@asynchronous
async def test_a_file_that_is_not_a_trace_is_refused_unchanged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trace.jsonl").write_bytes(content)
    with pytest.raises(SettingsError):
        FileTraceWriter(tmp_path / "trace.jsonl", "node-1").begin()
    settings = Settings(data=str(tmp_path / "data"), model_trace=str(tmp_path / "trace.jsonl"))
    with pytest.raises(SettingsError):
        async with open_services(settings):
            pass
    assert (tmp_path / "trace.jsonl").read_bytes() == content
    assert not (tmp_path / "data").exists(), "nothing else was written either"


@pytest.mark.parametrize("torn", [b"", b"{", b'{"type":"', b'{"type":"append","node":"no'])
@asynchronous
async def test_a_torn_last_line_of_a_trace_is_removed(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "trace.jsonl").write_bytes(_RECOVER + torn)
    async with services_in(tmp_path):
        pass
    assert [line.type for line in lines(tmp_path / "trace.jsonl")] == ["recover", "recover"]


_IN_USE = (
    LOG_NAME,
    f"{LOG_NAME}-wal",
    f"{LOG_NAME}-shm",
    f"{LOG_NAME}-journal",
    "interlock.lock",
    "interlock.head",
    "interlock.head.new",
    "keys",
    "keys/refresh.key",
    "keys/trace.jsonl",
    "../data/./interlock.db",
)


@pytest.mark.parametrize("name", _IN_USE)
@asynchronous
async def test_the_servers_own_files_are_refused_as_a_trace(tmp_path: Path, name: str) -> None:
    """Neither before the first start, when it does not exist yet, nor later."""
    data = tmp_path / "data"
    settings = Settings(data=str(data), model_trace=str(data / name), cheap_passwords_for_tests=True)
    with pytest.raises(SettingsError):
        async with open_services(settings):
            pass
    assert not data.exists()
    async with open_services(Settings(data=str(data), cheap_passwords_for_tests=True)) as services:
        await log_in(services)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError):
        async with open_services(settings):
            pass
    assert {path: path.read_bytes() for path in before} == before


@asynchronous
async def test_links_to_the_servers_own_files_are_refused_as_a_trace(tmp_path: Path) -> None:
    data, head = tmp_path / "data", tmp_path / "head"
    data.mkdir()
    (data / LOG_NAME).touch()
    (tmp_path / "link").symlink_to(data / "interlock.lock")
    os.link(data / LOG_NAME, tmp_path / "hard")
    for trace in (tmp_path / "link", tmp_path / "hard", head):
        with pytest.raises(SettingsError):
            async with open_services(Settings(data=str(data), head_file=str(head), model_trace=str(trace))):
                pass


@asynchronous
async def test_a_trace_of_another_log_is_refused(tmp_path: Path) -> None:
    for name, sessions in (("short", 1), ("long", 2), ("empty", 0)):
        async with services_in(tmp_path / name) as services:
            for _ in range(sessions):
                await log_in(services)
    short, long = ((tmp_path / name / "trace.jsonl").read_bytes() for name in ("short", "long"))
    for name, foreign, why in (
        ("short", long, f"it tells of position {BEGUN + 5}, and the log ends at {BEGUN + 3}"),
        ("long", short, "and the log has another record there"),
        ("empty", short, f"it tells of position {BEGUN + 3}, and the log ends at {BEGUN}"),
        ("empty", _RECOVER.replace(b":0", b":7"), f"it tells of position 7, and the log ends at {BEGUN}"),
    ):
        own = (tmp_path / name / "trace.jsonl").read_bytes()
        (tmp_path / name / "trace.jsonl").write_bytes(foreign + b'{"type":"')
        settings = Settings(data=str(tmp_path / name), model_trace=str(tmp_path / name / "trace.jsonl"))
        with pytest.raises(SettingsError, match=why):
            async with open_services(settings):
                pass
        assert (tmp_path / name / "trace.jsonl").read_bytes() == foreign + b'{"type":"', "left as it was"
        (tmp_path / name / "trace.jsonl").write_bytes(own)


@asynchronous
async def test_a_new_trace_killed_before_its_recovery_is_still_new(tmp_path: Path) -> None:
    """It held the live session's first record only; the ended one must not come into it."""
    async with services_in(tmp_path) as services:
        living, _ = await log_in(services)
        ended, _ = await log_in(services)
        await services.sessions.end(ended, "logout", "ada")
    trace = tmp_path / "trace.jsonl"
    trace.unlink()
    async with services_in(tmp_path):
        pass
    trace.write_bytes(trace.read_bytes().splitlines(keepends=True)[0])
    async with services_in(tmp_path):
        pass
    told = lines(trace)
    assert [line.type for line in told] == ["append", "append", "recover"]
    assert {line.instance for line in told if isinstance(line, Append)} == {living.session_id}


@asynchronous
async def test_an_idle_server_continues_its_trace(tmp_path: Path) -> None:
    for _ in range(2):
        async with services_in(tmp_path):
            pass
    assert [line.type for line in lines(tmp_path / "trace.jsonl")] == ["recover", "recover"]


def test_a_folder_and_a_pipe_are_refused_as_a_trace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SettingsError):
            FileTraceWriter(path, "node-1").begin()


def test_a_trace_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        FileTraceWriter(tmp_path / "nowhere" / "trace.jsonl", "node-1").begin()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError):
        FileTraceWriter(tmp_path / "file" / "trace.jsonl", "node-1").begin()


@asynchronous
async def test_a_link_to_itself_is_refused_as_a_trace(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SettingsError):
        async with open_services(Settings(data=str(tmp_path / "data"), model_trace=str(tmp_path / "loop"))):
            pass


def test_a_trace_whose_torn_line_cannot_be_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(f"not {descriptor} to {length}")

    (tmp_path / "trace.jsonl").write_bytes(_RECOVER + b'{"type":"')
    trace = FileTraceWriter(tmp_path / "trace.jsonl", "node-1")
    trace.begin()
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(SettingsError, match=str(len(_RECOVER))):
        trace.go_on(None, None)
    trace.close()
