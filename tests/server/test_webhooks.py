"""Webhooks over a real server and a real receiver: signed, in order, repeated, and never lost."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.server.test_event_log import positions, visit
from tests.support.admin import Admin, admin_token, problem
from tests.support.hooks import Delivered, Receiver, create_webhook, receiving
from tests.support.log import interlock, records
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

LOOPBACK = "127.0.0.0/8"


@contextmanager
def served(tmp_path: Path, **settings: Any) -> Iterator[tuple[ServerProcess, Receiver]]:
    """Run a server that may send to this machine, and a receiver."""
    with receiving() as receiver, running_server(tmp_path / "data", outgoing_networks=LOOPBACK, **settings) as server:
        yield server, receiver


@asynccontextmanager
async def administrator(server: ServerProcess) -> AsyncIterator[Admin]:
    async with Admin(server.url, admin_token(server.data)) as admin:
        yield admin


async def created(server: ServerProcess, admin: Admin, url: str, *scopes: str, name: str = "shop") -> str:
    """Create a webhook, and wait until the server has found it. Return its secret."""
    secret = await asyncio.to_thread(lambda: create_webhook(server.data, url, *scopes, name=name))
    await eventually(lambda: status(admin, name))
    return secret


async def status(admin: Admin, name: str = "shop") -> dict[str, Any] | None:
    found: list[dict[str, Any]] = await admin.get("/webhooks")
    return next((each for each in found if each["name"] == name), None)


def verified(delivered: Delivered, secret: str) -> Any:
    return Webhook(secret).verify(delivered.body, delivered.headers)


@scenario()
async def test_each_end_of_a_session_is_posted_and_signed(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        await visit(server.url, 1)
        async with administrator(server) as admin:
            secret = await created(server, admin, receiver.url, "session-ends")
            ended = await visit(server.url, 5)
            await eventually(lambda: len(receiver.got) == 5)
            assert {each.session_id for each in receiver.got} == {*ended}, "what is recorded after it was created"
            for each in receiver.got:
                message = verified(each, secret)
                assert message["type"] == "session.revoke"
                assert message["id"] == each.headers["webhook-id"]
                assert each.headers["content-type"] == "application/json"
                with pytest.raises(WebhookVerificationError):
                    verified(each._replace(body=each.body.replace(b"revoke", b"expire")), secret)
                other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
                with pytest.raises(WebhookVerificationError):
                    verified(each, other)
            shown = await status(admin)
            assert shown is not None
            assert (shown["dead_letters"], shown["disabled"], shown["failing"]) == (0, None, None)
            await eventually(lambda: _passed(admin))


async def _passed(admin: Admin) -> bool:
    shown = await status(admin)
    return shown is not None and (shown["behind"], shown["waiting"]) == (0, 0) and shown["last_success_at"] is not None


@scenario()
async def test_while_a_secret_is_rotated_both_verify(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            former = await created(server, admin, receiver.url, "session-ends")
            outcome = await asyncio.to_thread(interlock, "webhooks", "rotate", "shop", "--data", server.data)
            assert outcome.returncode == 0
            newest = outcome.stdout.strip()
            assert newest != former

            async def both() -> bool:
                await visit(server.url, 1)
                return bool(receiver.got) and len(receiver.got[-1].headers["webhook-signature"].split()) == 2

            await eventually(both)
            for secret in (former, newest):
                verified(receiver.got[-1], secret)
            added = [each["data"]["name"] for each in records(server.data) if each["data"].get("purpose") == "webhook"]
            assert added.count("shop") == 2, "the log records the new secret"
            assert former not in server.log_path.read_text()


@scenario()
async def test_a_failed_message_is_repeated_as_the_same_message(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            secret = await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: 500 if not receiver.got else 204
            await visit(server.url, 1)
            await eventually(receiver.taken)
            first, second = receiver.got
            assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
            assert second.at_s - first.at_s > 3.5
            assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
            verified(second, secret)


@scenario()
async def test_a_poisoned_session_holds_up_no_other_and_stays_in_order(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "all")
            poisoned: list[str] = []

            def answers(message: dict[str, Any]) -> int:
                data = message["data"]
                if data["kind"] != "session":
                    return 204
                if not poisoned:
                    poisoned.append(data["session_id"])
                return 500 if poisoned[0] == data["session_id"] and len(receiver.taken()) < 30 else 204

            receiver.answers = answers
            ended = await visit(server.url, 12)
            await eventually(
                lambda: len([each for each in receiver.taken() if "session_id" in each.message["data"]]) == 36
            )
            taken: dict[str, list[int]] = defaultdict(list)
            for each in receiver.taken():
                if each.message["data"]["kind"] == "session":
                    taken[each.session_id].append(each.message["data"]["version"])
            assert taken == {session_id: [1, 2, 3] for session_id in ended}
            order = [each.session_id for each in receiver.taken() if each.message["data"]["kind"] == "session"]
            assert order[-1] == poisoned[0] == ended[0], "all others went first"


@scenario()
async def test_429_is_respected_for_all_messages(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: (429, {"retry-after": "8"}) if not receiver.got else 204
            await visit(server.url, 1)
            await eventually(lambda: receiver.got)
            await visit(server.url, 3)
            await eventually(lambda: len(receiver.taken()) == 4)
            limited, *others = receiver.got
            assert all(each.at_s - limited.at_s > 7.9 for each in others)


@scenario()
async def test_410_disables_until_it_is_enabled_and_nothing_is_missed(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: 410
            ended = await visit(server.url, 1)
            await eventually(lambda: _disabled(admin))
            shown = await status(admin)
            assert shown is not None
            assert shown["disabled"] == "it answered 410 Gone"
            listed = await asyncio.to_thread(interlock, "webhooks", "list", "--data", server.data)
            assert "disabled" in listed.stdout
            ended += await visit(server.url, 2)
            before = len(receiver.got)
            server.kill()
            server.start()
            await eventually(lambda: status(admin))
            assert len(receiver.got) == before, "not by a restart either"
            receiver.answers = lambda _: 204
            answer = await admin.http.post("/webhooks/shop/enable")
            assert (answer.status_code, answer.json()["disabled"]) == (200, None)
            await eventually(lambda: len(receiver.taken()) == 3)
            assert {each.session_id for each in receiver.taken()} == {*ended}


async def _disabled(admin: Admin) -> bool:
    shown = await status(admin)
    return shown is not None and shown["disabled_at"] is not None


@scenario()
async def test_the_command_line_enables_a_disabled_webhook(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: 410 if not receiver.got else 204
            await visit(server.url, 1)
            await eventually(lambda: _disabled(admin))
            assert (
                await asyncio.to_thread(interlock, "webhooks", "enable", "shop", "--data", server.data)
            ).returncode == 0
            await eventually(receiver.taken)


@scenario()
async def test_kill_9_loses_no_message(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            secret = await created(server, admin, receiver.url, "session-ends")
            refused: set[str] = set()

            def answers(message: dict[str, Any]) -> int:
                time.sleep(0.1)  # so that messages are under way and wait when the server is killed
                if message["data"]["position"] % 7 or message["id"] in refused:
                    return 204
                refused.add(message["id"])
                return 500

            receiver.answers = answers
            first = positions(server.data, "revoke")
            assert first == []
            for _ in range(3):
                working = [asyncio.create_task(_until_refused(server.url)) for _ in range(4)]
                wanted = len(receiver.got) + 20
                await eventually(lambda wanted=wanted: len(receiver.got) > wanted)  # type: ignore[misc]  # its own value
                server.kill()
                await asyncio.gather(*working)
                server.start()
            ends = {*positions(server.data, "revoke")}
            assert len(ends) > 30
            await eventually(
                lambda: {each.message["data"]["position"] for each in receiver.taken()} == ends, within_s=60
            )
            for each in receiver.got[:: len(receiver.got) // 20]:
                verified(each, secret)
            bodies: dict[str, set[bytes]] = defaultdict(set)
            for each in receiver.got:
                bodies[each.headers["webhook-id"]].add(each.body)
            assert {len(each) for each in bodies.values()} == {1}, "what came twice is the same"


async def _until_refused(url: str) -> None:
    try:
        while True:
            await visit(url, 1)
    except Exception:  # noqa: BLE001, S110  # the server was killed
        pass


@scenario()
async def test_messages_wait_for_a_receiver_that_is_away(tmp_path: Path) -> None:
    with receiving() as gone:
        url = gone.url
    with running_server(tmp_path / "data", outgoing_networks=LOOPBACK) as server:
        async with administrator(server) as admin:
            await created(server, admin, url, "session-ends")
            await visit(server.url, 3)

            async def failing() -> Any:
                shown = await status(admin)
                return shown is not None and shown["failing"]

            assert "ConnectError" in await eventually(failing)

            async def all_waiting() -> bool:
                shown = await status(admin)
                return shown is not None and (shown["waiting"], shown["disabled"]) == (3, None)

            await eventually(all_waiting)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://127.0.0.1:1/", "https://localhost:1/", "http://[::1]:1/"]
)
@scenario()
async def test_private_addresses_are_refused_unless_listed(tmp_path: Path, url: str) -> None:
    with running_server(tmp_path / "data") as server:
        async with administrator(server) as admin:
            await created(server, admin, url, "session-ends")
            await visit(server.url, 1)

            async def failing() -> Any:
                shown = await status(admin)
                return shown is not None and shown["failing"]

            assert await eventually(failing) == "it resolves to no public address, and to none in outgoing_networks"


@scenario()
async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver), receiving() as elsewhere:
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: (307, {"location": elsewhere.url}) if not receiver.got else 204
            await visit(server.url, 1)
            await eventually(receiver.taken)
            assert elsewhere.got == []


@scenario()
async def test_the_list_shows_nothing_of_a_removed_webhook_of_the_same_name(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            receiver.answers = lambda _: 410
            await visit(server.url, 1)
            await eventually(lambda: _disabled(admin))
        server.stop()
        for command in (("remove", "shop"), ("list",)):
            assert interlock("webhooks", *command, "--data", server.data).returncode == 0
        create_webhook(server.data, receiver.url, "session-ends", name="shop")
        listed = interlock("webhooks", "list", "--data", server.data).stdout
        assert "enabled" in listed
        assert "disabled" not in listed


@scenario()
async def test_a_removed_webhook_gets_nothing_more(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):
        async with administrator(server) as admin:
            await created(server, admin, receiver.url, "session-ends")
            await created(server, admin, receiver.url, "session-ends", name="other")
            outcome = await asyncio.to_thread(interlock, "webhooks", "remove", "shop", "--data", server.data)
            assert outcome.returncode == 0
            await eventually(lambda: _gone(admin))
            await visit(server.url, 2)
            await eventually(lambda: len(receiver.got) == 2)
            problem(await admin.http.post("/webhooks/shop/enable"), 404, "not-found")
            problem(await admin.http.get("/webhooks/shop/dead-letters"), 404, "not-found")


async def _gone(admin: Admin) -> bool:
    return await status(admin) is None


@scenario()
async def test_the_list_shows_whole_urls_and_why_a_webhook_fails(tmp_path: Path) -> None:
    with served(tmp_path) as (server, receiver):

        async def rows() -> list[list[str]]:
            listed = await asyncio.to_thread(interlock, "webhooks", "list", "--data", server.data)
            return [[cell.strip() for cell in line.split("│")[1:-1]] for line in listed.stdout.splitlines()]

        async with administrator(server) as admin:
            url = receiver.url + "/" + "x" * 200
            await created(server, admin, url, "session-ends")
            receiver.answers = lambda _: 500
            await visit(server.url, 1)
            expected = ["shop", url, "session-ends", "enabled", "it answered 500", "1", "0"]
            await eventually(lambda: _listed(rows, expected))
            shown = await status(admin)
            assert shown is not None
            assert shown["failing"] == "it answered 500"
            receiver.answers = lambda _: 204
            await visit(server.url, 1)
            await eventually(lambda: _listed(rows, [*expected[:4], "", "0", "0"]))


async def _listed(rows: Callable[[], Awaitable[list[list[str]]]], expected: list[str]) -> bool:
    return expected in await rows()
