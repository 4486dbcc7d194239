"""N9 to N11: one door, one truth, and separated planes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec

from interlock.machine.machines import MACHINES
from interlock.machine.session.view import session_view
from interlock.machine.verifier import Verifier
from interlock.server.surface.sqlite.archive import open_archive
from tests.support.client import PASSWORD, Client, hello, logged_in, new_email
from tests.support.log import histories, projection, records, verify
from tests.support.running import scenario
from tests.support.server import running_server
from tests.support.source import ROOT, calls, imports, modules, names

DATABASE_MODULES = {"sqlite3", "pysqlite3", "sqlite_utils"}


@scenario()
async def test_n9_every_way_to_a_session_passes_the_one_door(data: Path) -> None:
    """A session is created on a path that does not pass the one door: never again. Every record verifies."""
    with running_server(data) as server:
        async with Client(server.url) as client:
            email = new_email()
            begun = [(await client.begin()).json()["session_id"]]
            await client.register(email)
            begun.append((await client.sibling().log_in(email)).json()["session_id"])
            page = {"Origin": server.url}
            answers = [
                await client.http.post("/api/session", headers=page),
                await client.http.post("/api/auth/login", headers=page, json={"email": email, "password": PASSWORD}),
            ]
            begun += [answer.json()["session_id"] for answer in answers]
            await client.log_in(email)
            async with client.connect() as socket:
                await hello(socket)
            assert len(set(begun)) == 4
    verify(data)
    found = histories(data)
    assert set(found) == set(begun) == set(projection(data))
    for history in found.values():
        assert (history[0]["event"], history[0]["source"], history[0]["version"]) == ("create", None, 1)


def test_n9_only_the_door_appends_and_only_the_surface_opens_the_file() -> None:
    """A session is created on a path that does not pass the one door: never again. The source has no other path."""
    server = dict(modules("server"))
    appending = {path for path, tree in server.items() if any(call.endswith("log.append") for call in calls(tree))}
    opening = {path for path, tree in server.items() if _packages(imports(tree)) & DATABASE_MODULES}
    assert appending == {"server/runtime/door.py"}
    assert all(path.startswith("server/surface/") for path in opening)
    for folder in ("spec", "machine"):
        assert not any(_packages(imports(tree)) & DATABASE_MODULES for _, tree in modules(folder))


def _packages(imported: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in imported}


@scenario()
async def test_n10_answer_projection_fold_and_greeting_agree(data: Path) -> None:
    """Two places hold two truths about one session: never again.

    The API, the greeting, what was pushed, the list of sessions, the stored projection and the fold of the log agree.
    """
    with running_server(data) as server:
        async with await logged_in(server.url) as client, client.connect() as first, client.connect() as second:
            greetings = [await hello(first), await hello(second)]
            await asyncio.gather(*(client.refresh(client.refresh_token) for _ in range(3)))
            answer = await client.session()
            listed = (await client.request("GET", "/api/sessions")).json()
            assert [each.pop("device")["address"] for each in listed] == ["127.0.0.1"]
            history = (await client.request("GET", "/api/session/transitions")).json()
            pushed = [json.loads(await second.recv()) for _ in range(answer["version"] - greetings[1]["version"])]
            stored = projection(data)[client.session_id]
            with open_archive(data) as archive:
                verifier = Verifier(MACHINES, lambda _kind, _session_id, _before: False)
                folded = [verifier.feed(row)[1] for row in archive.rows()][-1]

            assert [answer] == listed == [msgspec.to_builtins(session_view(folded))]
            assert history == [record for record in records(data) if record["kind"] == "session"]
            assert [record["version"] for record in history] == list(range(1, answer["version"] + 1))
            assert [{**record, "type": "transition"} for record in history[greetings[1]["version"] :]] == pushed
            assert (stored["state"], stored["version"]) == (answer["state"], answer["version"])
            for greeting in greetings:
                recorded = history[greeting["version"] - 1]
                assert (recorded["event"], recorded["target"]) == ("connect", greeting["state"])
                assert recorded["data"]["connection_id"] == greeting["connection_id"]
            held = {connection["connection_id"] for connection in stored["connections"]}
            assert held == {greeting["connection_id"] for greeting in greetings}
            assert answer["connections"] == len(held) == 2


@scenario()
async def test_n10_answers_are_the_same_after_a_restart(data: Path) -> None:
    """Two places hold two truths about one session: never again. Memory and disk: the answers after a kill are the same."""
    with running_server(data) as server:
        async with await logged_in(server.url) as client:
            await client.refresh()
            before = await client.session()
            server.kill()
            server.start()
            assert await client.session() == before


def test_n11_the_runtime_runs_without_the_web() -> None:
    """The runtime knows of cookies, headers or sockets; or the experience plane writes data: never again."""
    parts = [f"interlock.{path.removesuffix('.py').replace('/', '.')}" for path, _ in modules("server/runtime")]
    program = f"import sys, {', '.join(parts)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not _packages(set(loaded.stdout.split())) & {"litestar", "httptools", "picows"}
    web = {"cookie", "cookies", "header", "headers", "request", "response", "websocket", "scope", "status_code"}
    for path, tree in modules("server/runtime"):
        assert not names(tree) & web, path


def test_n11_the_experience_writes_no_data() -> None:
    """The runtime knows of cookies, headers or sockets; or the experience plane writes data: never again. The second half."""
    for path, tree in modules("server/experience"):
        # What `make generate` runs is not part of the server.
        writes = ("log.append", ".execute", *(() if path.endswith("client/declared.py") else (".write_text",)))
        assert not any(call.endswith(writes) for call in calls(tree)), path
        stored = {name for name in imports(tree) if name.startswith("interlock.server.surface")}
        assert not stored, path
    for path, tree in modules("server/surface"):
        web = ("litestar", "httptools", "picows", "interlock.server.experience")
        assert not any(name.startswith(web) for name in imports(tree)), path
