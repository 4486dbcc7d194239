"""Attacks on tokens, against a real server: whatever is not exactly what the server signed for this use opens no door."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import ConnectionClosed

from interlock.server.guard.keys.keyset import Keys, load_keys
from interlock.server.guard.secrets import Secrets
from tests.support.client import Client, closed, hello, logged_in
from tests.support.forging import claims_of, encode, maced, public_forms, signed, signing_input, usual_header
from tests.support.log import histories, verify
from tests.support.running import eventually, scenario
from tests.support.server import ServerProcess, running_server

KIDS = (
    "../../../../dev/null",
    "/dev/null",
    "refresh",
    "../keys/refresh.key",
    "signing-{kid}.pem",
    "./{kid}",
    "{kid}\x00",
    "{kid} ",
    "{kid}' OR '1'='1",
    "' UNION SELECT 'secret' --",
    "| cat /etc/passwd",
    "http://127.0.0.1:{port}/key",
    "*",
    "",
)
"""Names of keys that a server might look up somewhere else than in a table of its own."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("attacks") / "data") as process:
        yield process
        verify(process.data)


@pytest.fixture(scope="module")
def keys(server: ServerProcess) -> Keys:
    return load_keys(server.data / "keys")


@pytest.fixture(scope="module")
def gateway(server: ServerProcess) -> str:
    """The secret of a client that may introspect."""
    return Secrets(server.data / "keys", "client").create("gateway", 1)


async def refused_everywhere(client: Client, token: str, gateway: str, *, expired: bool = False) -> None:
    """``token`` opens nothing as an access token, at any door; the door says to refresh only if it is ``expired``."""
    problem, code = ("token-expired", 4408) if expired else ("credential-invalid", 4401)
    # What the gate remembers of the client must not help whoever sends something else.
    await client.http.get("/api/forward-auth", headers={"Authorization": f"Bearer {client.access_token}"})
    headers = {"Authorization": f"Bearer {token}"}
    for method, path in (
        ("GET", "/api/session"),
        ("GET", "/api/session/transitions"),
        ("POST", "/api/session/ticket"),
        ("GET", "/api/sessions"),
        ("DELETE", "/api/sessions"),
        ("POST", "/api/auth/logout"),
        ("GET", "/api/forward-auth"),
    ):
        answer = await client.http.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path, token)
        assert answer.json()["type"].rpartition(":")[2] == problem, (method, path, token)
        assert "error=" in answer.headers["www-authenticate"]
        assert len(token) < 8 or token not in answer.text
    answer = await client.http.post("/api/auth/refresh", json={"refresh_token": token[:512]})
    assert answer.status_code == 401, token
    form = {"token": token} if token else {"token": "."}
    answer = await client.http.post("/oauth/introspect", auth=("gateway", gateway), data=form)
    assert answer.json() == {"active": False}, token
    async with client.connect(additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        assert (await closed(socket))[0] == code, token
    async with client.connect() as socket:
        await socket.send(json.dumps({"type": "refresh", "access_token": token}))
        assert (await closed(socket))[0] == code, token


@asynccontextmanager
async def victim(server: ServerProcess) -> AsyncIterator[Client]:
    """Somebody who is logged in, and to whom nothing happens but what they do themselves."""
    async with await logged_in(server.url) as client:
        assert (await client.session())["state"] == "authenticated"
        yield client
        assert (await client.session())["state"] in {"authenticated", "connected"}
        events = {record["event"] for record in histories(server.data)[client.session_id]}
        assert events <= {"create", "authenticate", "connect", "disconnect", "touch"}


@scenario()
async def test_a_token_put_together_by_hand_opens_the_door(server: ServerProcess, keys: Keys) -> None:
    """So that each of those below is refused for its own reason."""
    async with victim(server) as client:
        token = signed(keys, usual_header(keys), claims_of(client.access_token))
        answer = await client.http.get("/api/session", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


@pytest.mark.asvs("9.1.1", "9.1.2")
@scenario(120)
async def test_algorithm_confusion(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """HS256 with the public key as the secret, in every form that it is published or kept in; and other algorithms."""
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        header = usual_header(keys)
        for secret in public_forms(keys).values():
            await refused_everywhere(client, maced(secret, {**header, "alg": "HS256"}, claims), gateway)
        for algorithm in ("HS256", "ES384", "RS256", "PS256", "EdDSA", "es256", "ES256K", "ES256 "):
            await refused_everywhere(client, signed(keys, {**header, "alg": algorithm}, claims), gateway)


@pytest.mark.asvs("9.1.1", "9.1.2")
@scenario(120)
async def test_no_algorithm(server: ServerProcess, keys: Keys, gateway: str) -> None:
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        signature = client.access_token.rpartition(".")[2]
        for name in ("none", "None", "NONE", "nOnE", ""):
            text = signing_input({**usual_header(keys), "alg": name}, claims)
            for end in ("", "AA", signature):
                await refused_everywhere(client, f"{text}.{end}", gateway)
        await refused_everywhere(client, client.access_token.rpartition(".")[0], gateway)
        await refused_everywhere(client, client.access_token.rpartition(".")[0] + ".", gateway)


@pytest.mark.asvs("9.1.3")
@scenario(120)
async def test_a_kid_is_a_name_in_a_table_and_neither_path_nor_query_nor_address(
    server: ServerProcess, keys: Keys, gateway: str
) -> None:
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        before = sorted((server.data / "keys").iterdir())
        for pattern in KIDS:
            kid = pattern.format(kid=keys.signing.kid, port=1)
            header = {**usual_header(keys), "kid": kid}
            await refused_everywhere(client, signed(keys, header, claims), gateway)
            for secret in (b"", keys.signing.kid.encode()):
                await refused_everywhere(client, maced(secret, {**header, "alg": "HS256"}, claims), gateway)
        assert sorted((server.data / "keys").iterdir()) == before


@pytest.mark.asvs("9.1.3")
@scenario(120)
async def test_a_token_that_brings_its_key_or_says_where_to_get_it(
    server: ServerProcess, keys: Keys, gateway: str
) -> None:
    """An attacker's own key, embedded or at an address: refused, and nobody asks there."""
    asked = 0

    def ask(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    listener = await asyncio.start_server(ask, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/jwks.json"
    own = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    async with listener, victim(server) as client:
        claims = claims_of(client.access_token)
        for kid in (keys.signing.kid, "theirs"):
            for more in (
                {},
                {"jwk": {**jwk, "kid": kid}},
                {"jku": address},
                {"x5u": address},
                {"x5c": ["MIIB"]},
                {"jwk": {**jwk, "kid": kid}, "jku": address, "x5u": address, "crit": ["jku"]},
                {"iss": address, "jwks_uri": address},
            ):
                header = {"kid": kid, "typ": "at+jwt", **more}
                await refused_everywhere(client, jwt.encode(claims, own, "ES256", header), gateway)
                if more:
                    await refused_everywhere(client, signed(keys, {**usual_header(keys), **more}, claims), gateway)
        refused = {**claims, "iss": address}
        await refused_everywhere(client, signed(keys, usual_header(keys), refused), gateway)
        assert asked == 0
        _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        await eventually(lambda: asked == 1)
        writer.close()


@pytest.mark.asvs("9.2.3", "9.2.4")
@scenario(120)
async def test_a_token_of_another_issuer_audience_or_server(
    server: ServerProcess, keys: Keys, gateway: str, tmp_path: Path
) -> None:
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        wrong: list[dict[str, Any]] = [
            {name: value}
            for name in ("iss", "aud")
            for value in (
                "another",
                "",
                "interlock ",
                "Interlock",
                ["interlock"],
                ["another", "interlock"],
                None,
                1,
                True,
            )
        ]
        for change in wrong:
            await refused_everywhere(client, signed(keys, usual_header(keys), {**claims, **change}), gateway)
        for name in ("iss", "aud", "exp", "iat", "sub", "sid", "epoch", "jti"):
            left_out = {each: value for each, value in claims.items() if each != name}
            await refused_everywhere(client, signed(keys, usual_header(keys), left_out), gateway)
        other = load_keys(tmp_path / "keys")
        await refused_everywhere(client, signed(other, usual_header(other), claims), gateway)
        await refused_everywhere(client, signed(other, usual_header(keys), claims), gateway)


@pytest.mark.asvs("10.3.2")
@scenario(120)
async def test_claims_that_are_not_the_sessions_as_it_stands(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """Each claim counts: a good signature over one session's id and another's subject opens neither."""
    async with victim(server) as client, victim(server) as other:
        claims, theirs = claims_of(client.access_token), claims_of(other.access_token)
        for change in (
            {"sub": theirs["sub"]},
            {"sub": f"anonymous:{client.session_id}"},
            {"sub": ""},
            {"sid": theirs["sid"]},
        ):
            await refused_everywhere(client, signed(keys, usual_header(keys), {**claims, **change}), gateway)
        for epoch in (claims["epoch"] - 1, claims["epoch"] + 1):
            token = signed(keys, usual_header(keys), {**claims, "epoch": epoch})
            await refused_everywhere(client, token, gateway, expired=True)
        async with client.connect() as socket:
            await hello(socket)
            await socket.send(json.dumps({"type": "refresh", "access_token": other.access_token}))
            with pytest.raises(ConnectionClosed) as ended:
                await socket.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 4401, "a good token of another session keeps no socket open"


@pytest.mark.asvs("9.2.2")
@scenario(120)
async def test_what_was_signed_for_something_else_is_no_access_token(
    server: ServerProcess, keys: Keys, gateway: str
) -> None:
    """A head, a refresh token, a ticket, a session id; and an access token as any of these."""
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        for name in ("JWT", "jwt", "application/at+jwt", "interlock-head+jwt", "AT+JWT", "", None, ["at+jwt"]):
            await refused_everywhere(client, signed(keys, {**usual_header(keys), "typ": name}, claims), gateway)
        no_type = {"alg": "ES256", "kid": keys.signing.kid}
        await refused_everywhere(client, signed(keys, no_type, claims), gateway)
        head = server.data / "interlock.head"
        await eventually(head.exists)
        await refused_everywhere(client, head.read_text().strip(), gateway)
        ticket = (await client.request("POST", "/api/session/ticket")).json()["ticket"]
        for other in (client.session_id, ticket, gateway):
            await refused_everywhere(client, other, gateway)
        bearer = {"Authorization": f"Bearer {client.refresh_token}"}
        assert (await client.http.get("/api/session", headers=bearer)).status_code == 401
        for wrong in (client.access_token, client.refresh_token):
            protocols = ["interlock.v1", f"ticket.{wrong}"]
            async with client.connect(additional_headers={}, subprotocols=protocols) as socket:
                assert (await closed(socket))[0] == 4401
        for wrong in (client.access_token[:512], ticket, head.read_text().strip()):
            answer = await client.http.post("/api/auth/refresh", json={"refresh_token": wrong})
            assert answer.status_code == 401


@pytest.mark.asvs("9.2.1")
@scenario(120)
async def test_a_token_that_expired_a_second_ago_or_is_not_yet_or_too_long_good(
    server: ServerProcess, keys: Keys, gateway: str
) -> None:
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        now_s = int(time.time())
        header = usual_header(keys)
        for times in ({"exp": now_s - 1}, {"exp": now_s}, {"exp": 0}, {"exp": -1}, {"exp": now_s + 10 * 366 * 86_400}):
            token = signed(keys, header, {**claims, **times})
            await refused_everywhere(client, token, gateway, expired=True)
        wrong: list[dict[str, Any]] = [
            {"iat": now_s + 3_600, "exp": now_s + 3_660},
            {"nbf": now_s + 3_600},
            {"exp": str(now_s + 60)},
        ]
        for times in wrong:
            await refused_everywhere(client, signed(keys, header, {**claims, **times}), gateway)
        for exp in (b"1e99", b"true", b'"%d"' % (now_s + 60), b"%d.0" % (now_s + 60), b"null", b"[%d]" % (now_s + 60)):
            text = json.dumps({**claims, "exp": "@"}).encode().replace(b'"@"', exp)
            await refused_everywhere(client, signed(keys, header, text), gateway)


@pytest.mark.asvs("9.1.1")
@scenario(120)
async def test_a_token_written_in_another_way(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """The same claims under a good signature, in a form that another reader could understand otherwise."""
    async with victim(server) as client:
        token = client.access_token
        claims = claims_of(token)
        twice = json.dumps(claims)[:-1] + ', "sub": "acc_somebody"}'
        header_twice = json.dumps(usual_header(keys))[:-1] + ', "alg": "none"}'
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for other in (
            signed(keys, usual_header(keys), twice.encode()),
            signed(keys, header_twice.encode(), claims),
            signed(keys, usual_header(keys), {**claims, "epoch": str(claims["epoch"])}),
            signed(keys, usual_header(keys), {**claims, "epoch": True}),
            signed(keys, usual_header(keys), json.dumps(claims).encode("utf-16")),
            signed(keys, usual_header(keys), [claims]),
            signed(keys, {**usual_header(keys), "b64": False, "crit": ["b64"]}, claims),
            token[:-1] + alphabet[alphabet.index(token[-1]) + 1],
            token + "=",
            token + ".",
            token + "." + encode(b"{}"),
            token.replace(".", "..", 1),
            f"{token},{token}",
            token + "A" * 4096,
        ):
            await refused_everywhere(client, other, gateway)


@pytest.mark.asvs("9.1.1")
@scenario(120)
async def test_claims_under_another_tokens_signature(server: ServerProcess, keys: Keys, gateway: str) -> None:
    changes: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
        lambda claims: {**claims, "sub": "acc_somebody"},
        lambda claims: {**claims, "exp": claims["exp"] + 1},
        lambda claims: {**claims, "epoch": claims["epoch"] + 1},
    ]
    async with victim(server) as client, victim(server) as other:
        header, _, signature = client.access_token.split(".")
        for change in changes:
            text = signing_input(usual_header(keys), change(claims_of(client.access_token)))
            await refused_everywhere(client, f"{text}.{signature}", gateway)
        theirs = other.access_token.split(".")[1]
        await refused_everywhere(client, f"{header}.{theirs}.{signature}", gateway)
