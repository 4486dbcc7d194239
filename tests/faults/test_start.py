"""A server that can't start gives the reason in one line, and exits with a status other than 0."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.log import interlock
from tests.support.server import running_server


def start(data: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS": "1", **environment}
    return interlock("serve", "--port", "0", "--data", data, *flags, environment=variables)


def said(outcome: subprocess.CompletedProcess[str]) -> str:
    """Return the one error line of a server that did not start."""
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("interlock: ")]
    return line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder that a server has used."""
    data = tmp_path_factory.mktemp("start") / "data"
    with running_server(data):
        pass
    return data


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to break."""
    copy = tmp_path / "data"
    shutil.copytree(made, copy)
    return copy


def signing_key(data: Path) -> Path:
    (path,) = (data / "keys").glob("signing-*.pem")
    return path


def _unreadable(data: Path) -> None:
    """Replace the file by something that is not one: root can read everything else."""
    path = data / "keys" / "refresh.key"
    path.unlink()
    path.mkdir(mode=0o700)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a key that others may read": (lambda data: signing_key(data).chmod(0o640), "may be read by others"),
    "a MAC key that others may read": (lambda data: (data / "keys/refresh.key").chmod(0o604), "may be read by others"),
    "a key that is garbage": (lambda data: signing_key(data).write_bytes(b"x"), "does not hold a private key"),
    "a MAC key that is cut": (lambda data: (data / "keys/refresh.key").write_bytes(b"x"), "does not hold 32 bytes"),
    "a key that can't be read": (_unreadable, "can't be used: Is a directory"),
    "a log whose WAL can't be made": (lambda data: (data / "interlock.db-wal").mkdir(), "unable to open database file"),
    "a log that is garbage": (lambda data: (data / "interlock.db").write_bytes(b"x" * 9000), "not a database"),
}


@pytest.mark.parametrize(("break_it", "message"), BROKEN.values(), ids=BROKEN)
def test_a_start_names_what_is_broken(data: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(data)
    assert message in said(start(data))


def test_a_start_refuses_a_file_in_place_of_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert said(start(tmp_path / "data")).endswith(f"{tmp_path}/data is a file, not a folder")


def test_a_start_refuses_a_data_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in said(start(tmp_path / "file" / "data"))


def test_a_start_refuses_an_unwritable_data_folder() -> None:
    assert "/proc/self/data" in said(start(Path("/proc/self/data")))


def test_a_start_refuses_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = said(start(tmp_path / "data", "--port", str(port)))
    advice = "end that program, or choose another port: --port or INTERLOCK_PORT"
    assert line.endswith(f"127.0.0.1 port {port}: Address already in use; {advice}")
    assert not (tmp_path / "data").exists(), "and nothing was made"


def test_a_start_refuses_a_metrics_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = said(start(tmp_path / "data", "--metrics-port", str(port)))
    advice = "end that program, or choose another port: --metrics-port or INTERLOCK_METRICS_PORT"
    assert line.endswith(f"127.0.0.1 port {port}: Address already in use; {advice}")
    assert not (tmp_path / "data").exists()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as other:
        return str(other.getsockname()[1])


def test_a_start_refuses_one_port_for_two_purposes(tmp_path: Path) -> None:
    port = free_port()
    line = said(start(tmp_path / "data", "--port", port, "--metrics-port", port))
    assert line.startswith(f"interlock: --metrics-port: {port} ")
    assert not (tmp_path / "data").exists()


def test_a_start_refuses_one_port_under_two_host_names(tmp_path: Path) -> None:
    port = free_port()
    line = said(start(tmp_path / "data", "--port", port, "--metrics-port", port, "--metrics-host", "localhost"))
    assert f"127.0.0.1 port {port}: Address already in use" in line


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_start_refuses_a_foreign_address(tmp_path: Path, host: str) -> None:
    assert f"{host} port 0: " in said(start(tmp_path / "data", "--host", host))


def test_a_start_refuses_data_in_use_by_another_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as first:
        line = said(start(tmp_path / "data"))
        assert f"process {first.pid}" in line
        assert str(first.database) in line


def test_a_server_starts_again_once_the_fault_is_mended(data: Path) -> None:
    signing_key(data).chmod(0o640)
    said(start(data))
    signing_key(data).chmod(0o600)
    with running_server(data):
        pass


@pytest.mark.parametrize("name", ["a#1", "a?mode=rwc", "b%2fc", "%61", "a b", "ä"])
def test_a_data_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    """SQLite opens a file to read by its URI. Unescaped, these characters would name, or create, another file."""
    folder = tmp_path / "in" / name
    folder.parent.mkdir()
    with running_server(folder) as server:
        token = httpx.post(f"{server.url}/api/session").json()["access_token"]
        history = httpx.get(f"{server.url}/api/session/transitions", headers={"Authorization": f"Bearer {token}"})
        assert [record["event"] for record in history.json()] == ["create"]
    with running_server(folder):
        assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
