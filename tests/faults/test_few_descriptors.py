"""The limit of open files: raised as far as possible, and connections are capped below it."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from interlock.server.settings import Settings
from interlock.server.settings_loading import setting_rows
from interlock.server.system import descriptors
from interlock.server.system.descriptors import RESERVE, effective_tcp_total
from tests.faults.test_keys_gone import unusable
from tests.faults.test_no_descriptor import KEPT_S, all_is_answered, events, has_keys, made_secrets, one_connection
from tests.faults.test_start import said
from tests.support.client import hello
from tests.support.few_files import limit_files, limit_of, limited
from tests.support.log import interlock, verify
from tests.support.metrics import metrics_url, scrape
from tests.support.running import eventually, scenario
from tests.support.server import running_server

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def peer(url: str, source: str) -> socket.socket | None:
    """Open a connection from ``source`` that has been answered once; None if it was cut."""
    parts = urlsplit(url)
    raw = socket.create_connection((parts.hostname or "", parts.port or 0), 60, (source, 0))
    try:
        raw.sendall(REQUEST)
        if raw.recv(65536).startswith(b"HTTP/1.1 "):
            return raw
    except ConnectionError:
        pass
    raw.close()
    return None


@contextmanager
def crowd(url: str, count: int) -> Iterator[list[socket.socket]]:
    """Open ``count`` connections from each of two addresses. Skip those that are cut."""
    with ExitStack() as stack:
        peers = [peer(url, source) for source in ("127.0.0.1", "127.0.0.2") for _ in range(count)]
        yield [stack.enter_context(raw) for raw in peers if raw is not None]


@pytest.mark.parametrize("metrics", [False, True])
@scenario()
async def test_sessions_are_answered_with_more_peers_than_descriptors(tmp_path: Path, *, metrics: bool) -> None:
    ports = {"metrics_port": 0} if metrics else {}
    kept = {"keep_alive_s": KEPT_S, "ping_interval_s": KEPT_S}
    with limited(tmp_path / "data", 256, 256, log_json=True, **kept, **ports) as server:
        (told,) = await eventually(lambda: events(server, "descriptors.limited"))
        assert (told["tcp_total"], told["open_files"]) == ((256 - RESERVE) // (2 if metrics else 1), 256)
        secrets = made_secrets(server)
        async with one_connection(server.url) as client, client.connect() as open_socket:
            await hello(open_socket)
            with ExitStack() as stack:
                if metrics:
                    there = stack.enter_context(crowd(metrics_url(server).removesuffix("/metrics"), 150))
                    assert len(there) == told["tcp_total"]
                here = stack.enter_context(crowd(server.url, 150))
                # One is the client's, another its WebSocket's.
                assert len(here) == told["tcp_total"] - 2
                await all_is_answered(client, secrets)
                assert interlock("keys", "rotate", "--data", server.data).returncode == 0
                # The files were checked since.
                await eventually(lambda: has_keys(client, 2))
                await all_is_answered(client, secrets)
                for _ in range(3):
                    here.pop().close()
                newcomer = await eventually(lambda: peer(server.url, "127.0.0.2"))
                newcomer.close()
                async with client.connect() as another:
                    await hello(another)
                await open_socket.ping()
        assert unusable(server) == []
        assert events(server, "files.unchecked") == []
    verify(server.data)


def test_a_low_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    with limited(tmp_path / "data", 64, 4096, log_json=True, tcp_total=1000, metrics_port=0) as server:
        assert limit_of(server) == (4096, 4096)
        assert events(server, "descriptors.limited") == []
        with crowd(server.url, 100) as peers:
            assert len(peers) == 200
        assert scrape(server).value("process_max_fds") == 4096


@pytest.mark.parametrize(("flags", "enough"), [((), RESERVE + 1), (("--metrics-port", "0"), RESERVE + 2)])
def test_a_start_with_too_few_descriptors_is_refused(tmp_path: Path, flags: tuple[str, ...], enough: int) -> None:
    too_few = partial(limit_files, enough - 1, enough - 1)
    outcome = interlock("serve", "--port", "0", "--data", tmp_path / "data", *flags, prepare=too_few)
    assert re.findall(r"\d+", said(outcome))[:2] == [str(enough - 1), str(enough)]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("tcp_total", "metrics_port", "open_files", "effective"),
    [
        (60_000, None, 1_000_000, 60_000),
        (60_000, 9000, 1_000_000, 60_000),
        (1_000, None, RESERVE + 1_000, 1_000),
        (1_000, None, RESERVE + 999, 999),
        (1_000, 9000, RESERVE + 2_000, 1_000),
        (1_000, 9000, RESERVE + 1_999, 999),
        (1, 0, RESERVE + 2, 1),
    ],
)
def test_all_ports_together_fit_below_the_limit(
    tcp_total: int, metrics_port: int | None, open_files: int, effective: int
) -> None:
    settings = Settings(tcp_total=tcp_total, metrics_port=metrics_port)
    assert effective_tcp_total(settings, open_files) == effective


def test_a_limit_that_the_kernel_refuses_to_raise_still_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_resource: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _resource: (512, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 512


def test_the_tcp_total_setting_names_the_descriptor_reserve() -> None:
    (row,) = (row for row in setting_rows() if row.name == "tcp_total")
    assert f"less {RESERVE}," in row.description


def test_the_kernels_table_of_descriptors_does_not_grow_while_the_server_answers(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", tcp_total=3_000) as server:
        size = int(re.findall(r"^FDSize:\s+(\d+)$", Path(f"/proc/{server.pid}/status").read_text(), re.MULTILINE)[0])
    assert size >= 3_000 + RESERVE
