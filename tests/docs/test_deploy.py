"""The files that the guides install are accepted by the programs that read them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from interlock.server.settings import Settings
from interlock.server.system.descriptors import RESERVE
from tests.support.server import running_server
from tests.support.source import ROOT

DEPLOY: Final = ROOT / "docs/deploy"


def seconds(text: str, name: str) -> int:
    """Return the whole seconds that a file sets for ``name``."""
    found = re.search(rf"^\s*{name}[=:] *(\d+)s?$", text, re.MULTILINE)
    assert found, name
    return int(found[1])


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    assert program, "the tests need systemd-analyze: make packages"
    unit = tmp_path / "interlock.service"
    command = str(Path(sys.executable).with_name("interlock"))
    unit.write_text((DEPLOY / "interlock.service").read_text().replace("/opt/interlock/.venv/bin/interlock", command))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "notice"}
    checked = subprocess.run(
        [program, "verify", "--man=no", unit], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    # It also reads the units of this machine, and speaks of those.
    assert [line for line in checked.stderr.splitlines() if unit.name in line or str(unit) in line] == []
    assert checked.returncode == 0, checked.stderr


def test_the_unit_gives_the_server_its_connections_and_the_time_to_drain() -> None:
    unit, settings = (DEPLOY / "interlock.service").read_text(), Settings()
    assert seconds(unit, "LimitNOFILE") >= settings.tcp_total + RESERVE
    assert seconds(unit, "TimeoutStopSec") > settings.drain_s


def test_the_images_health_check_asks_the_server_where_it_is(tmp_path: Path) -> None:
    joined = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    check = re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", joined, re.MULTILINE)
    assert check
    command = [sys.executable, *json.loads(check[1])[1:]]
    with running_server(tmp_path / "data", base_path="/auth") as server:
        port = server.url.removesuffix("/auth").rpartition(":")[2]
        for base_path, healthy in (("/auth", True), ("/other", False)):
            environment = {**os.environ, "INTERLOCK_PORT": port, "INTERLOCK_BASE_PATH": base_path}
            done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
            assert (done.returncode == 0) == healthy, done.stderr


def test_caddy_accepts_the_caddyfile_of_compose(tmp_path: Path) -> None:
    program = shutil.which("caddy")
    assert program, "the tests need caddy: make packages"
    command = [program, "validate", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
    environment = {**os.environ, "SITE": "localhost", "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    checked = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert checked.returncode == 0, checked.stderr


def test_every_platform_waits_longer_than_a_drain_takes() -> None:
    drain_s = Settings().drain_s
    manifest, compose = ((DEPLOY / name).read_text() for name in ("kubernetes.yaml", "compose.yaml"))
    pause = re.search(r"command: \[sleep, \"(\d+)\"\]", manifest)
    assert pause
    assert seconds(manifest, "terminationGracePeriodSeconds") > drain_s + int(pause[1])
    assert seconds(compose, "stop_grace_period") > drain_s


def test_every_platform_runs_the_user_and_the_folder_of_the_image() -> None:
    image, manifest, compose = (
        (DEPLOY / name).read_text() for name in ("Dockerfile", "kubernetes.yaml", "compose.yaml")
    )
    assert "USER 10001:10001" in image
    assert {seconds(manifest, name) for name in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    assert "INTERLOCK_DATA=/var/lib/interlock/data" in image
    assert "mountPath: /var/lib/interlock}" in manifest
    assert "data:/var/lib/interlock\n" in compose


def test_the_image_gets_every_folder_that_the_package_is_built_from() -> None:
    allowed = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    links = [path.resolve().name for path in (ROOT / "interlock").iterdir() if path.is_symlink()]
    assert {"interlock", *links, "pyproject.toml", "requirements.lock", "README.md", "LICENSE"} == set(allowed)


def test_probes_ask_what_the_server_answers() -> None:
    manifest = (DEPLOY / "kubernetes.yaml").read_text()
    probes = dict(re.findall(r"(\w+)Probe:\n +httpGet: \{path: (\S+), port: http\}", manifest))
    assert probes == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
