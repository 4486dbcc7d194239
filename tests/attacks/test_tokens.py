"""Attacks on tokens, against a real server: only exactly what the server signed for a use is accepted there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

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
    """Return the secret of a client that may introspect."""
    return Secrets(server.data / "keys", "client").create("gateway", 1)


async def refused_everywhere(client: Client, token: str, gateway: str, *, expired: bool = False) -> None:
    """Check that ``token`` is refused everywhere as an access token. Only if it is ``expired``, the answer says to refresh."""
    problem, code = ("token-expired", 4408) if expired else ("credential-invalid", 4401)
    # The answer that forward-auth caches for the client must not let a forged token in.
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
    """Return a logged-in user whom nobody else affects."""
    async with await logged_in(server.url) as client:
        assert (await client.session())["state"] == "authenticated"
        yield client
        assert (await client.session())["state"] in {"authenticated", "connected"}
        events = {record["event"] for record in histories(server.data)[client.session_id]}
        assert events <= {"create", "authenticate", "connect", "disconnect", "touch"}


@scenario()
async def test_a_correctly_handmade_token_is_accepted(server: ServerProcess, keys: Keys) -> None:
    """So that each forgery below is refused for its own reason."""
    async with victim(server) as client:
        token = signed(keys, usual_header(keys), claims_of(client.access_token))
        answer = await client.http.get("/api/session", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


@pytest.mark.asvs("9.1.1", "9.1.2", "9.2.1", "9.2.3", "9.2.4")
@scenario(120)
async def test_every_endpoint_refuses_every_kind_of_forged_token(
    server: ServerProcess, keys: Keys, gateway: str, tmp_path: Path
) -> None:
    """One of each kind; tests/server/test_tokens.py has their variants."""
    other = load_keys(tmp_path / "keys")
    async with victim(server) as client:
        header, claims, now_s = usual_header(keys), claims_of(client.access_token), int(time.time())
        written, _, signature = client.access_token.rpartition(".")
        forged = signing_input(header, {**claims, "sub": "acc_somebody"})
        for token in (
            f"{signing_input({**header, 'alg': 'none'}, claims)}.",
            f"{written}.",
            f"{forged}.{signature}",
            *(maced(secret, {**header, "alg": "HS256"}, claims) for secret in public_forms(keys).values()),
            maced(b"", {**header, "alg": "HS256", "kid": "../../../../dev/null"}, claims),
            signed(keys, {**header, "kid": "refresh"}, claims),
            signed(other, header, claims),
            signed(keys, header, {**claims, "aud": "another"}),
            signed(keys, header, {**claims, "iss": "another"}),
            signed(keys, header, {**claims, "nbf": now_s + 3_600}),
            signed(keys, header, (json.dumps(claims)[:-1] + ', "sub": "acc_somebody"}').encode()),
            f"{client.access_token}.{encode(b'{}')}",
            client.access_token + "A" * 4096,
        ):
            await refused_everywhere(client, token, gateway)
        for exp in (now_s - 1, now_s + 10 * 366 * 86_400):
            await refused_everywhere(client, signed(keys, header, {**claims, "exp": exp}), gateway, expired=True)


@pytest.mark.asvs("9.1.3")
@scenario(120)
async def test_a_token_with_its_own_key_or_key_url_is_refused(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """An attacker's own key, embedded or at a URL: refused, and the URL is never requested."""
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
            for more in ({}, {"jwk": {**jwk, "kid": kid}}, {"jku": address}, {"x5u": address}, {"x5c": ["MIIB"]}):
                header = {"kid": kid, "typ": "at+jwt", **more}
                await refused_everywhere(client, jwt.encode(claims, own, "ES256", header), gateway)
        assert asked == 0
        _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        await eventually(lambda: asked == 1)
        writer.close()


@pytest.mark.asvs("10.3.2")
@scenario(120)
async def test_claims_that_differ_from_the_session_are_refused(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """Each claim counts: a valid signature over one session's id and another's subject opens neither."""
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
async def test_credentials_of_other_types_are_no_access_tokens(server: ServerProcess, keys: Keys, gateway: str) -> None:
    """A head, a refresh token, a ticket, a session id; and an access token as any of these."""
    async with victim(server) as client:
        claims = claims_of(client.access_token)
        head_type = {**usual_header(keys), "typ": "interlock-head+jwt"}
        await refused_everywhere(client, signed(keys, head_type, claims), gateway)
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
