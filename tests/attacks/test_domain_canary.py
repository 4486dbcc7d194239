"""Canaries of realms: what clients tell them and get from them, and the secrets that sign, appear only where they belong."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from interlock.server.guard.realm_secrets import RealmSecrets
from tests.support.admin import admin_token
from tests.support.canary import Canaries
from tests.support.client import Client, logged_in
from tests.support.hooks import create_webhook
from tests.support.hooks import receiving as receiving_messages
from tests.support.intents import outcome, submitted
from tests.support.log import interlock
from tests.support.receiver import receiving
from tests.support.running import eventually, run, until
from tests.support.server import ServerProcess, running_server

ECHO = "some_realm.echo"

_MESSAGES: Final = 3
"""How many messages the webhook is sent at least."""


@pytest.mark.slow
@pytest.mark.asvs("16.2.5", "14.2.1")
def test_parameters_and_signing_secrets_appear_only_where_they_belong(tmp_path: Path) -> None:
    canaries, signing = Canaries(), Canaries()
    domain = canaries.add("a parameter", f"canary {secrets.token_hex(24)}")
    with receiving() as spans, receiving_messages() as hooks:
        settings = {
            "realm": "tests.support.some_realm:realm",
            "log_json": True,
            "log_level": "debug",
            "access_log": True,
            "metrics_port": 0,
            "otel_endpoint": spans.url,
            "outgoing_networks": "127.0.0.0/8,::1",
        }
        with running_server(tmp_path / "data", **settings) as server:
            for whose, text in (
                ("the webhook's secret", create_webhook(server.data, hooks.url, "all", name="shop")),
                ("the realm's secret", RealmSecrets(server.data / "keys").create("some_realm", 1)),
            ):
                signing.add(whose, text.removeprefix("whsec_").rstrip("="))
            known = signing_texts(server.data)
            said = run(everything(server, domain, known), within_s=300)
            until(lambda: len(hooks.got) > _MESSAGES)
            scraped = httpx.get(re.findall(r"http://127\.0\.0\.1:\d+/metrics", server.log_path.read_text())[-1]).text
        sent = b"".join(spans.bodies) + b"".join(each.body for each in hooks.got)
    exported = interlock("export", server.data).stdout.encode()
    for which in (canaries, signing):
        outputs = [
            *which.found("the log", server.log_path.read_bytes()),
            *which.found("spans and messages", sent),
            *which.found("the metrics", scraped.encode()),
            *which.found("the export", exported),
            *which.found("the answers", b"\n\n".join(said)),
            *which.found_in(server.trace),
        ]
        assert outputs == []
    assert signing.found_in(*server.data.glob("interlock.*")) == []
    # They are where they belong, so the search can find them.
    assert canaries.found_in(server.data / "interlock.db")
    assert signing.found_in(server.data / "keys")


def signing_texts(data: Path) -> list[str]:
    """Return the signing secrets as the files hold them."""
    return [
        each["secret"]
        for path in (*data.glob("keys/webhook-*.secret"), *data.glob("keys/realm-*.secret"))
        for each in json.loads(path.read_text())["secrets"]
    ]


async def everything(server: ServerProcess, domain: str, signing: list[str]) -> list[bytes]:
    """Submit ``domain`` rightly and wrongly, and present the ``signing`` secrets where none is expected.

    Return all answers, but those that give an owner what is theirs.
    """
    said: list[bytes] = []
    admin = {"authorization": f"Bearer {await asyncio.to_thread(admin_token, server.data)}"}
    async with await logged_in(server.url) as client:
        # A running server looks for new webhooks now and then, and sends what happens from then on.
        await eventually(lambda: _knows_the_webhook(client, admin))
        for text in (domain, f"explode {domain}"):
            accepted = await submitted(client, ECHO, text=text)
            said.append(accepted.content)
            ended = await outcome(client, accepted.json()["execution_id"])
            if ended["state"] == "succeeded":
                assert ended["result"] == {"text": domain}
            else:
                said.append(json.dumps(ended).encode())
        wrong = ({"text": [domain]}, {domain: 1}, {"text": domain, domain: 1}, {"text": {domain: domain}})
        said += [(await submitted(client, ECHO, **parameters)).content for parameters in wrong]
        for body in (
            f'{{"parameters": {{"text": "{domain}"}}',
            json.dumps([domain]),
            json.dumps({"id": "i", "name": domain}),
        ):
            headers = {"content-type": "application/json"}
            said.append((await client.request("POST", "/api/intents", content=body, headers=headers)).content)
        said += await over_a_socket(client, domain)
        report = {"attempt": 1, "result": {"text": domain}}
        for secret in signing:
            for headers in (
                {"authorization": f"Bearer {secret}"},
                {"webhook-signature": f"v1,{secret}"},
                {"x": secret},
            ):
                for path in ("/api/realms/some_realm/outcomes", f"/api/realms/{secret}/outcomes"):
                    said.append((await client.http.post(path, json=report, headers=headers)).content)
                for path in ("/api/session", "/api/events", "/api/admin/webhooks"):
                    said.append((await client.http.get(path, headers=headers)).content)
        for path in ("executions", "webhooks", "transitions", "audit"):
            shown = await client.http.get(f"/api/admin/{path}", headers=admin)
            assert shown.status_code == 200
            said.append(shown.content)
        said.append((await client.request("POST", "/api/auth/logout")).content)
        await eventually(lambda: _behind_nothing(client, admin))
    return said


async def over_a_socket(client: Client, domain: str) -> list[bytes]:
    """Say wrong intents. Return what the server answers."""
    said = []
    async with client.connect() as socket:
        for parameters in ({"text": [domain]}, {domain: domain}):
            intent = {"type": "intent", "id": secrets.token_hex(8), "name": ECHO, "parameters": parameters}
            await socket.send(json.dumps(intent))
            while json.loads(told := await socket.recv())["type"] != "refused":
                pass
            said.append(str(told).encode())
    return said


async def _knows_the_webhook(client: Client, admin: dict[str, str]) -> bool:
    return "shop" in (await client.http.get("/api/admin/webhooks", headers=admin)).text


async def _behind_nothing(client: Client, admin: dict[str, Any]) -> bool:
    shown = (await client.http.get("/api/admin/webhooks", headers=admin)).json()
    return bool(shown) and all(each["behind"] == 0 for each in shown)
