"""Proxies as the how-to pages configure them: the pages' own blocks, with the test's addresses and certificates."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
import websockets.asyncio.client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import KeptPort

HOST = "app.example.org"
IDENTITY: Final = ("remote-user", "remote-groups", "remote-email", "remote-name", "x-session-id", "x-session-state")
_HOW_TO = Path(__file__).parents[2] / "docs/how-to"
_START_S = 30.0
_STOP_S = 5.0


class Front(msgspec.Struct):
    """A running proxy for https://app.example.org, over one Interlock and one application."""

    port: int
    application: str
    certificate: Path

    @property
    def origin(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self, host: str = HOST) -> httpx.AsyncClient:
        """Return a client of ``host``, whose name no DNS server knows."""
        return httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"host": f"{host}:{self.port}"},
            transport=_Named(host, verify=self.tls),
            timeout=60,
        )

    def socket(self, path: str, **arguments: Any) -> websockets.asyncio.client.connect:
        """Open a WebSocket to ``path``."""
        return websockets.asyncio.client.connect(
            f"wss://{HOST}:{self.port}{path}",
            host="127.0.0.1",
            port=self.port,
            ssl=self.tls,
            compression=None,
            open_timeout=30,
            **arguments,
        )

    def say(
        self, target: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b"", address: str = "127.0.0.1"
    ) -> int:
        """Request exactly ``target`` from ``address``, and return the status of the answer."""
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        with self.wire(address) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            return int(connection.recv(16).split()[1])

    def wire(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        """Open an unused connection from ``address``."""
        plain = socket.create_connection(("127.0.0.1", self.port), _START_S, source_address=(address, 0))
        return self.tls.wrap_socket(plain, server_hostname=HOST)

    def seen(self) -> list[dict[str, Any]]:
        """Return what reached the application since the last call."""
        requests: list[dict[str, Any]] = httpx.get(f"{self.application}/seen", timeout=30).json()
        return requests


class _Named(httpx.AsyncHTTPTransport):
    """Connects to an address and requests a name (TLS server name indication)."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._name = name

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = self._name
        return await super().handle_async_request(request)


@contextmanager
def nginx(folder: Path, interlock: str, *foreign: str, page: str = "behind-nginx.md") -> Iterator[Front]:
    """Run nginx over the server at ``interlock``; hosts ``foreign`` belong to others, with the application's pages.

    ``page`` is the how-to page with the configuration.
    """
    with _echo() as application:
        kept, certificate = KeptPort(), certify(folder, HOST, *foreign)
        port = kept.number
        key = certificate.with_suffix(".key")
        block = _replace(
            block_of(page),
            ("listen 443", f"listen 127.0.0.1:{port}"),
            ("/etc/ssl/app.example.org.pem", str(certificate)),
            ("/etc/ssl/app.example.org.key", str(key)),
            ("127.0.0.1:8700", urlsplit(interlock).netloc),
            ("127.0.0.1:3000", application.removeprefix("http://")),
        )
        theirs = "\n".join(
            f"server {{ listen 127.0.0.1:{port} ssl; server_name {host};"
            f" ssl_certificate {certificate}; ssl_certificate_key {key};"
            " location / { proxy_set_header Host $http_host; proxy_pass http://application; } }"
            for host in foreign
        )
        temporary = "\n".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = folder / "nginx.conf"
        # The user who runs the tests owns the folder; nginx's workers would run as another one.
        user = "user root;\n" if os.geteuid() == 0 else ""
        configuration.write_text(
            f"{user}daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\nevents {{ }}\n"
            f"http {{\naccess_log off;\n{temporary}\n{block}\n{theirs}\n}}\n"
        )
        command = [_program("nginx"), "-p", str(folder), "-e", str(folder / "nginx.log"), "-c", str(configuration)]
        with _process(command, folder / "nginx.out", port):
            yield Front(port, application, certificate)


@contextmanager
def caddy(folder: Path, interlock: str) -> Iterator[Front]:
    """Run Caddy over the server at ``interlock``."""
    with _echo() as application:
        kept, certificate = KeptPort(), certify(folder, HOST)
        port = kept.number
        block = _replace(
            block_of("behind-caddy.md"),
            (
                "app.example.org {",
                (
                    f"https://app.example.org:{port} {{\n\tbind 127.0.0.1\n"
                    f"\ttls {certificate} {certificate.with_suffix('.key')}"
                ),
            ),
            ("127.0.0.1:8700", urlsplit(interlock).netloc),
            ("127.0.0.1:3000", application.removeprefix("http://")),
        )
        configuration = folder / "Caddyfile"
        configuration.write_text(
            f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system {folder}/caddy\n}}\n{block}"
        )
        command = [_program("caddy"), "run", "--config", str(configuration), "--adapter", "caddyfile"]
        with _process(command, folder / "caddy.out", port):
            yield Front(port, application, certificate)


@contextmanager
def haproxy(folder: Path, interlock: str) -> Iterator[Front]:
    """Run HAProxy over the server at ``interlock``."""
    with _echo() as application:
        kept, certificate = KeptPort(), certify(folder, HOST)
        port = kept.number
        both = folder / "both.pem"
        both.write_text(certificate.read_text() + certificate.with_suffix(".key").read_text())
        configuration = folder / "haproxy.cfg"
        configuration.write_text(
            _replace(
                block_of("behind-haproxy.md"),
                # By default it takes 101 headers. A test claims to be someone in more of them.
                ("global\n", "global\n    tune.http.maxhdr 256\n"),
                ("bind :443", f"bind 127.0.0.1:{port}"),
                ("/etc/ssl/app.example.org.pem", str(both)),
                ("/etc/haproxy/interlock.lua", str(_HOW_TO.with_name("deploy") / "interlock.lua")),
                ("127.0.0.1:8700", urlsplit(interlock).netloc),
                ("127.0.0.1:3000", application.removeprefix("http://")),
            )
        )
        with _process([_program("haproxy"), "-db", "-f", str(configuration)], folder / "haproxy.out", port):
            yield Front(port, application, certificate)


FRONTS: Final[dict[str, Callable[[Path, str], AbstractContextManager[Front]]]] = {
    "nginx": nginx,
    "caddy": caddy,
    "haproxy": haproxy,
}


def identity(reached: dict[str, Any]) -> dict[str, list[str]]:
    """Return the identity headers that reached the application, as a CGI application server reads them."""
    found: dict[str, list[str]] = {}
    for name, value in reached["headers"]:
        plain = re.sub("[^a-z0-9]", "-", name.lower())
        if plain in IDENTITY and value:
            found.setdefault(plain, []).append(value)
    return found


def certify(folder: Path, *hosts: str) -> Path:
    """Create a self-signed certificate for ``hosts``, with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "front.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _program(name: str) -> str:
    """Return the path of ``name``; not every user's PATH has /usr/sbin."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, f"the tests need {name}: make packages"
    return found


def block_of(page: str) -> str:
    """Return the first code block of a how-to page, without its options."""
    text = (_HOW_TO / page).read_text()
    block = text.partition("```{code-block}")[2].partition("\n")[2].partition("\n```")[0]
    return "\n".join(line for line in block.splitlines() if not line.startswith(":caption:")) + "\n"


def _replace(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, f"the page has no {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def _echo() -> Iterator[str]:
    """Run the application. Yield its base URL."""
    process = subprocess.Popen([sys.executable, "-m", "tests.support.echo_app"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


@contextmanager
def _process(command: Sequence[str], output: Path, port: int) -> Iterator[None]:
    """Run ``command`` until the context ends, which begins when it listens on ``port``."""
    with output.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, "XDG_CONFIG_HOME": str(output.parent)}
        )
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            # Caddy waits for unanswered requests.
            process.kill()
            process.wait()
