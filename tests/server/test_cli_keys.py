"""``interlock keys`` and ``interlock clients``, as a user types them, even beside a running server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from interlock.server.cli.main import main
from interlock.server.clock import SystemClock
from interlock.server.guard.keys.heads import check_head, signer_of
from interlock.server.guard.keys.keyset import load_keys, load_public_keys
from interlock.server.guard.keys.rotation import TokenLifetimes, record_lifetimes
from interlock.server.surface.sqlite.files import exclusive_access
from tests.support.client import Client, logged_in
from tests.support.forging import decode
from tests.support.log import BEGUN, record_count, verify
from tests.support.running import eventually, scenario
from tests.support.server import running_server

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def run(*arguments: object, **environment: str | None) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env={"INTERLOCK_DATA": None, **environment})


def shown(data: Path) -> dict[str, list[str]]:
    """Return the rows of ``interlock keys list``, by key."""
    outcome = run("keys", "list", "--data", data)
    assert outcome.exit_code == 0, outcome.output
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in outcome.stdout.splitlines() if "│" in line
    ]
    return {name: rest for name, *rest in rows}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a data folder that a server left, with a head."""
    data = tmp_path_factory.mktemp("keys") / "data"
    with running_server(data) as server:
        httpx.post(f"{server.url}/api/session").raise_for_status()
    yield data
    assert record_count(data) == BEGUN + 1


def make_old(data: Path, seconds: int) -> None:
    """Make the signing keys ``seconds`` older than their files say."""
    for path in data.glob("keys/signing-*.pem"):
        first, _, rest = path.read_bytes().partition(b"\n")
        path.write_bytes(b"Signs-From: %d\n" % (int(first.split()[1]) - seconds * 1000) + rest)


def test_help_names_the_groups_and_their_commands() -> None:
    told = run("--help").output
    assert "keys" in told
    assert "clients" in told
    for group, commands in (("keys", ("list", "rotate", "retire")), ("clients", ("create", "list", "remove"))):
        told = run(group, "--help").output
        assert all(command in told for command in commands)


LISTS = [("keys", "list"), ("clients", "list"), ("admin-token", "list")]


@pytest.mark.parametrize("command", [*LISTS, ("clients", "remove", "x"), ("admin-token", "remove", "x")])
@pytest.mark.parametrize("folder", ["nowhere", "empty", "a-file"])
def test_listing_a_folder_without_keys_is_an_error(tmp_path: Path, command: tuple[str, ...], folder: str) -> None:
    """The operator named the wrong folder, and would believe that there are no keys."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").touch()
    outcome = run(*command, "--data", tmp_path / folder)
    assert outcome.exit_code == 2
    assert str(tmp_path / folder) in outcome.output or "is a file" in outcome.output
    assert not (tmp_path / "nowhere").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_misspelt_variable_stops_every_command(made: Path) -> None:
    """Otherwise a command meant for another folder would use the default one."""
    for command in (*LISTS, ("verify",), ("transitions", "x"), ("serve",)):
        outcome = run(*command, INTERLOCK_DATE=str(made))
        assert outcome.exit_code == 2
        assert "INTERLOCK_DATE" in outcome.output
        assert "(did you mean INTERLOCK_DATA?)" in outcome.output


def test_keys_list_shows_each_keys_status_and_whole_name(made: Path) -> None:
    rows = shown(made)
    kid = load_keys(made / "keys").signing.kid
    assert rows[kid][:2] == ["signing", "signs"]
    assert re.fullmatch(TIME, rows[kid][2])
    assert rows["refresh"] == ["refresh", "signs", "", ""]
    listed = run("keys", "list", INTERLOCK_DATA=str(made)).stdout
    assert listed.count(kid) == 1
    assert re.findall(r"key|purpose|status", listed.splitlines()[1]) == ["key", "purpose", "status"]


@pytest.mark.asvs("11.1.1")
def test_rotate_says_when_the_new_key_signs(tmp_path: Path) -> None:
    first = load_keys(tmp_path / "keys").signing.kid
    record_lifetimes(tmp_path / "keys", TokenLifetimes(300_000, 43_200_000))
    said = run("keys", "rotate", "--data", tmp_path).stdout
    (new,) = re.findall(rf"^(\S+) signs from {TIME}\. ", said)
    rows = shown(tmp_path)
    assert rows[new][1] == "published, signs later"
    assert rows[first][1] == "signs"
    assert re.fullmatch(TIME, rows[first][3]), "from when it may be retired is known in advance"
    said = run("keys", "rotate", "--refresh", "--now", "--data", tmp_path).stdout
    (mac,) = re.findall(r"^(refresh-[0-9a-f]{12}) signs now\.", said)
    rows = shown(tmp_path)
    assert rows[mac][:2] == ["refresh", "signs"]
    assert rows["refresh"][1] == "verifies"


def test_key_command_errors_are_one_line(tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        outcome = run(*arguments, "--data", tmp_path)
        assert (outcome.exit_code, outcome.stdout) == (2, "")
        (line,) = outcome.stderr.splitlines()
        return line

    assert str(tmp_path) in said("keys", "rotate")
    kid = load_keys(tmp_path / "keys").signing.kid
    assert "named x" in said("keys", "retire", "x")
    assert said("keys", "retire", kid).startswith(f"interlock: {kid} ")
    (tmp_path / "keys" / "signing-x.pem").write_text("x")
    (tmp_path / "keys" / "signing-x.pem").chmod(0o600)
    assert "signing-x.pem" in said("keys", "list")
    assert "a-z" in said("clients", "create", "A b")
    assert "nobody" in said("clients", "remove", "nobody")


def test_retiring_a_key_signs_a_stopped_logs_head_again(tmp_path: Path) -> None:
    """The old key signed the head, and no server is running that could sign it again."""
    with running_server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/api/session").raise_for_status()
    data, head = server.data, server.data / "interlock.head"
    old = load_keys(data / "keys").signing.kid
    before = check_head(head.read_text().strip(), load_public_keys(data / "keys"))
    assert run("keys", "rotate", "--now", "--data", data).exit_code == 0
    assert run("keys", "retire", old, "--data", data).exit_code == 2
    assert signer_of(head.read_text().strip()) == old
    make_old(data, 361)
    assert shown(data)[old][1] == "may be retired"
    outcome = run("keys", "retire", old, "--data", data)
    assert outcome.stdout == f"{old} is removed.\n"
    after = check_head(head.read_text().strip(), load_public_keys(data / "keys"))
    assert (after.receipt, after.final) == (before.receipt, True)
    verify(data)
    server.start()
    server.stop()
    assert old not in shown(data)


@pytest.mark.parametrize("spoil", ["garbage", "", "another"])
def test_a_head_signed_by_another_key_does_not_block_retirement(tmp_path: Path, made: Path, spoil: str) -> None:
    """It is refused with or without the key; the next start tells the operator."""
    data = tmp_path / "data"
    data.mkdir()
    old = load_keys(data / "keys").signing.kid
    good = (made / "interlock.head").read_text()
    texts = {"another": good, "garbage": "garbage", "": ""}
    (data / "interlock.head").write_text(texts[spoil])
    run("keys", "rotate", "--now", "--data", data)
    assert run("keys", "retire", old, "--force", "--data", data).exit_code == 0
    assert (data / "interlock.head").read_text() == texts[spoil]


def test_a_head_with_a_wrong_signature_is_not_signed_again(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/api/session").raise_for_status()
    head = server.data / "interlock.head"
    header, payload, signature = head.read_text().strip().split(".")
    forged = f"{header}.{payload}.{'A' * (len(signature) - 4)}{signature[-4:]}"
    head.write_text(forged)
    old = load_keys(server.data / "keys").signing.kid
    run("keys", "rotate", "--now", "--data", server.data)
    assert run("keys", "retire", old, "--force", "--data", server.data).exit_code == 0
    assert head.read_text() == forged


def test_a_key_is_kept_while_the_running_server_has_not_re_signed_its_head(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.server.cli.keys._HEAD_WAIT_S", 0.1)
    data = tmp_path / "data"
    data.mkdir()
    for path in made.glob("keys/*"):
        (data / "keys").mkdir(exist_ok=True, mode=0o700)
        (data / "keys" / path.name).write_bytes(path.read_bytes())
        (data / "keys" / path.name).chmod(0o600)
    (data / "interlock.head").write_bytes((made / "interlock.head").read_bytes())
    old = load_keys(data / "keys").signing.kid
    run("keys", "rotate", "--now", "--data", data)
    make_old(data, 361)
    with exclusive_access(data):
        outcome = run("keys", "retire", old, "--data", data)
        assert outcome.exit_code == 2
        assert old in outcome.stderr
        # A compromised key is removed anyway.
        assert run("keys", "retire", old, "--force", "--data", data).exit_code == 0


async def published(client: Client) -> list[str]:
    document = (await client.http.get("/.well-known/jwks.json")).json()
    return [key["kid"] for key in document["keys"]]


@pytest.mark.asvs("11.2.2")
@scenario(120)
async def test_a_running_server_publishes_a_new_key_and_later_signs_with_it(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client:
            (old,) = await published(client)
            await asyncio.to_thread(run, "keys", "rotate", "--data", server.data)

            async def is_new() -> str | None:
                return next((kid for kid in await published(client) if kid != old), None)

            new = await eventually(is_new)
            await client.refresh()
            assert decode(client.access_token.split(".")[0])["kid"] == old, "others have to fetch the new one first"
            kept = client.access_token
            make_old(server.data, 600)

            async def signs() -> bool:
                await client.refresh()
                return bool(decode(client.access_token.split(".")[0])["kid"] == new)

            await eventually(signs)
            for token in (kept, client.access_token):
                answer = await client.http.get("/api/session", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == 200


@pytest.mark.asvs("11.2.2")
@scenario(120)
async def test_rotating_the_refresh_key_logs_nobody_out(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with await logged_in(server.url) as client, await logged_in(server.url) as sleeper:
            await asyncio.to_thread(run, "keys", "rotate", "--refresh", "--now", "--data", server.data)
            macs = load_keys(server.data / "keys", SystemClock().now_ms())
            assert len(macs.refresh_macs) == 2

            async def noticed() -> bool:
                return "keys.changed" in server.log_path.read_text()

            await eventually(noticed)
            before = client.refresh_token
            assert (await client.refresh()).status_code == 200
            repeated = await client.http.post("/api/auth/refresh", json={"refresh_token": before})
            assert repeated.status_code == 200
            server.stop()
            server.start()
            assert (await client.refresh()).status_code == 200
            assert (await sleeper.refresh()).status_code == 200
            # The old key is removed early: its tokens are void, the new one's are not.
            async with await logged_in(server.url) as late:
                page = {"Cookie": f"__Host-interlock={late.refresh_token}", "Origin": server.url}
                outcome = await asyncio.to_thread(run, "keys", "retire", "refresh", "--force", "--data", server.data)
                assert outcome.exit_code == 0
                assert (await late.http.post("/api/auth/refresh", headers=page)).status_code == 200


@scenario(120)
async def test_the_head_of_an_idle_log_is_signed_by_a_new_key_at_once(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        async with Client(server.url) as client:
            await client.begin()
            head = server.data / "interlock.head"
            await eventually(head.exists)
            old = signer_of(head.read_text().strip())
            await asyncio.to_thread(run, "keys", "rotate", "--now", "--data", server.data)
            await eventually(lambda: signer_of(head.read_text().strip()) != old)
            outcome = await asyncio.to_thread(run, "keys", "retire", old, "--force", "--data", server.data)
            assert outcome.exit_code == 0
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert (await client.begin()).status_code == 201
    verify(server.data)


@scenario(120)
async def test_a_bad_new_key_is_logged_and_ignored_by_a_running_server(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", log_json=True) as server:
        async with await logged_in(server.url) as client:
            before = await published(client)
            bad = server.data / "keys" / "signing-bad.pem"
            bad.write_text("garbage")
            bad.chmod(0o600)
            await eventually(lambda: "keys.ignored" in server.log_path.read_text())
            assert await published(client) == before
            assert (await client.session())["state"] == "authenticated"
            assert (await client.refresh()).status_code == 200
            bad.unlink()


def test_a_server_runs_with_a_read_only_key_folder(tmp_path: Path, made: Path) -> None:
    """Keys may be read-only: then the command line can't know the token lifetimes, and says so."""
    data = tmp_path / "data"
    (data / "keys").mkdir(parents=True, mode=0o700)
    for path in made.glob("keys/*"):
        if path.name != "lifetimes.json":
            (data / "keys" / path.name).write_bytes(path.read_bytes())
            (data / "keys" / path.name).chmod(0o600)
    # Block the draft file's path: a folder can't be opened as a file, not even by root.
    (data / "keys" / "lifetimes.json.new").mkdir()
    (data / "keys" / "lifetimes.json.new" / "x").touch()
    with running_server(data, log_json=True) as server:
        assert httpx.post(f"{server.url}/api/session").status_code == 201
    assert "keys.lifetimes_not_written" in server.log_path.read_text()
    assert shown(data)["refresh"] == ["refresh", "signs", "", ""]


@pytest.mark.asvs("10.4.10")
def test_introspection_clients_are_created_listed_and_removed(tmp_path: Path) -> None:
    load_keys(tmp_path / "keys")
    outcome = run("clients", "create", "gateway", "--data", tmp_path)
    assert re.fullmatch(r"ilk_client_gateway_[A-Za-z0-9_-]{43}\n", outcome.stdout), "alone, to be piped on"
    (kept,) = (tmp_path / "keys").glob("*.secret")
    assert outcome.stdout.strip()[-43:] not in kept.read_text(), "as a hash"
    shown = run("clients", "list", "--data", tmp_path).stdout
    assert re.search(rf"gateway\s*│ {TIME}", shown)
    assert outcome.stdout.strip() not in shown
    assert run("clients", "create", "gateway", "--data", tmp_path).exit_code == 2
    assert run("clients", "remove", "gateway", "--data", tmp_path).exit_code == 0
    assert "gateway" not in run("clients", "list", "--data", tmp_path).stdout
