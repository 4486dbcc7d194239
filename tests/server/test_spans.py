"""OpenTelemetry: spans reach a real OTLP/HTTP receiver, and without the setting nothing of it is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.client import Client, hello, logged_in
from tests.support.receiver import receiving
from tests.support.running import run
from tests.support.server import ServerProcess, running_server


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def a_login_and_a_socket(server: ServerProcess, **headers: str) -> Client:
    client = await logged_in(server.url)
    (await client.request("POST", "/api/session/ticket")).raise_for_status()
    async with client.connect() as open_:
        await hello(open_)
    assert (await client.http.get("/no/such/thing", headers=headers)).status_code == 404
    await client.http.aclose()
    return client


def test_spans_of_requests_transitions_and_commits_are_linked(tmp_path: Path) -> None:
    with receiving() as receiver:
        with running_server(tmp_path / "data", otel_endpoint=receiver.url, node="node-7") as server:
            trace_id = "0af7651916cd43dd8448eb211c80319c"
            client = run(a_login_and_a_socket(server, traceparent=f"00-{trace_id}-b7ad6b7169203331-01"))
        # The stop sent the rest.
        (login,) = receiver.named("POST /api/auth/login")
        assert login.kind == Span.SpanKind.SPAN_KIND_SERVER
        told = attributes(login)
        assert (told["http.request.method"], told["http.route"]) == ("POST", "/api/auth/login")
        assert told["http.response.status_code"] == 200
        assert told["interlock.request_id"].startswith("req_")
        (authenticate,) = receiver.named("append authenticate")
        (create,) = receiver.named("append create")
        assert create.trace_id == authenticate.trace_id == login.trace_id
        assert create.parent_span_id == authenticate.parent_span_id == login.span_id
        assert attributes(authenticate)["interlock.instance_id"] == client.session_id
        assert attributes(authenticate)["interlock.version"] == 2
        assert login.start_time_unix_nano <= create.start_time_unix_nano <= create.end_time_unix_nano
        assert create.end_time_unix_nano <= login.end_time_unix_nano
        commits = receiver.named("commit")
        (commit,) = [c for c in commits if authenticate.span_id in {link.span_id for link in c.links}]
        assert {link.span_id for link in commit.links} >= {create.span_id, authenticate.span_id}
        assert not commit.parent_span_id
        # A write beside the log, such as a ticket, is no transition.
        (ticket,) = receiver.named("POST /api/session/ticket")
        assert ticket.span_id in {span.parent_span_id for span in receiver.named("write")}
        (socket,) = receiver.named("GET /api/connect")
        assert attributes(socket)["http.response.status_code"] == 101
        assert attributes(socket)["interlock.session_id"] == client.session_id
        (connect,) = receiver.named("append connect")
        assert connect.parent_span_id == socket.span_id
        assert receiver.named("append disconnect")
        # Callers are not trusted with the trace id.
        (unknown,) = receiver.named("GET none")
        assert unknown.trace_id.hex() != trace_id
        assert (receiver.resource["service.name"], receiver.resource["service.instance.id"]) == ("interlock", "node-7")
        assert not [body for body in receiver.bodies if client.access_token.encode() in body]


def test_a_trusted_callers_span_is_the_parent_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "sessions")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with receiving() as receiver:
        with running_server(tmp_path / "data", otel_endpoint=receiver.url, trust_request_ids=True) as server:
            run(a_login_and_a_socket(server, traceparent=f"00-{trace_id}-{parent}-01"))
        (unknown,) = receiver.named("GET none")
        assert (unknown.trace_id.hex(), unknown.parent_span_id.hex()) == (trace_id, parent)
        assert receiver.resource["service.name"] == "sessions"


def test_a_failed_write_and_a_5xx_are_errors(tmp_path: Path) -> None:
    with receiving() as receiver:
        with running_server(tmp_path / "data", otel_endpoint=receiver.url, connections_total=1) as server:

            async def main() -> None:
                client = await logged_in(server.url)
                async with client.connect() as open_:
                    await hello(open_)
                    second = client.connect()
                    with pytest.raises(Exception, match="503"):
                        await second
                again = await client.register(client.email)
                assert again.status_code == 409
                await client.http.aclose()

            run(main())
        statuses = {
            attributes(s)["http.response.status_code"]: s.status.code for s in receiver.named("GET /api/connect")
        }
        assert statuses == {101: 0, 503: 2}
        assert [span.status.message for span in receiver.named("write") if span.status.code == 2] == ["AccountExists"]


def test_a_missing_span_receiver_does_not_affect_the_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", otel_endpoint="http://127.0.0.1:9") as server:
        run(a_login_and_a_socket(server))
        assert server.stop() == 0


def test_without_the_setting_opentelemetry_is_not_imported() -> None:
    code = (
        "import sys, interlock.server.cli.main, interlock.server.process;"
        " sys.exit(any(m.split('.')[0] in {'opentelemetry', 'prometheus_client'} for m in sys.modules))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], check=False)
    assert outcome.returncode == 0


def test_without_opentelemetry_the_start_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without the extra: a package that can't be imported is first on the path.
    missing = tmp_path / "path" / "opentelemetry"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError('No module', name='opentelemetry')\n")
    monkeypatch.setenv("PYTHONPATH", str(missing.parent))
    flags = ("--data", str(tmp_path / "data"), "--port", "0", "--otel-endpoint", "http://127.0.0.1:9")
    command = [sys.executable, "-m", "interlock.server.cli", "serve", *flags]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 2
    assert "install Interlock with its extra `otel`" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "data" / "interlock.db").exists()
