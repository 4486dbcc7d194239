"""The fuzzing targets, as Hypothesis tests: any input causes only declared errors, and nothing is accepted.

Beside arbitrary text, the inputs are what an attacker would start from: a valid token changed in one place, and a valid
one's members replaced by any JSON and signed with the server's own key, so that the signature is not the only obstacle.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from interlock.machine.errors import CredentialInvalid, CredentialRefused, HeadRefused, SessionNotFound
from interlock.machine.ledger import Receipt
from interlock.machine.session.conversation import Conversation
from interlock.machine.session.messages import Limits, parse
from interlock.machine.session.stream import Stream, StreamLimits
from interlock.server.guard.keys.heads import check_head, read_head, sign_head
from tests.fuzz import connections
from tests.fuzz.world import World
from tests.support.forging import claims_of, encode, signed, usual_header

MEMBERS = ("alg", "kid", "typ", "sid", "sub", "epoch", "iss", "aud", "exp", "iat", "nbf", "jti", "crit", "jku", "x")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.sampled_from(
        ["ES256", "none", "HS256", "at+jwt", "interlock-head+jwt", "interlock", "../../dev/null", "0", ""]
    )
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
changes = st.dictionaries(st.sampled_from(MEMBERS), anything, max_size=3)
texts = st.text(max_size=400) | st.binary(max_size=400).map(lambda raw: raw.decode("latin-1"))
letters = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", max_size=300)


@st.composite
def edits(draw: st.DrawFn) -> Callable[[str], str]:
    """Change a text in one place: replace, insert, cut, or double."""
    place = draw(st.integers(0, 4096))
    what = draw(st.characters() | st.sampled_from(["=", ".", "\n", "\x00", "-", "_"]))
    how = draw(st.sampled_from(["exchange", "insert", "cut", "double"]))

    def edit(text: str) -> str:
        at = place % max(1, len(text))
        match how:
            case "exchange":
                return text[:at] + what + text[at + 1 :]
            case "insert":
                return text[:at] + what + text[at:]
            case "cut":
                return text[:at] + text[at + 1 :]
        return text[:at] + text[at : at + 8] + text[at:]

    return edit


@st.composite
def bit_flips(draw: st.DrawFn) -> Callable[[str], str]:
    """Flip one bit of what a part of a token encodes, and encode it again."""
    part, bit = draw(st.integers(0, 2)), draw(st.integers(0, 1 << 20))

    def flip(token: str) -> str:
        parts = token.split(".")
        if part >= len(parts):
            return token
        raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
        raw[bit // 8 % len(raw)] ^= 1 << bit % 8
        parts[part] = encode(bytes(raw))
        return ".".join(parts)

    return flip


def _refused(world: World, work: Any) -> None:
    """Check that ``work``, the verification of some credential, fails as declared."""
    try:
        world.run(work)
    except (CredentialRefused, SessionNotFound):
        return
    raise AssertionError("accepted")


def access_tokens(world: World) -> Callable[[], None]:
    """Fuzz texts, and the valid token changed anywhere: never accepted."""

    @given(texts | letters, edits() | bit_flips())
    def target(text: str, change: Callable[[str], str]) -> None:
        _refused(world, world.services.authenticator.by_access_token(text))
        changed = change(world.access_token)
        if changed != world.access_token:
            _refused(world, world.services.authenticator.by_access_token(changed))

    return target


def signed_claims(world: World) -> Callable[[], None]:
    """Fuzz header and claims under a valid signature: accepted only with the server's header, and read exactly."""
    keys = world.services.keys
    header, claims = usual_header(keys), claims_of(world.access_token)

    @given(in_header=changes, in_claims=changes, repeated=st.sampled_from(["", *MEMBERS]))
    def target(in_header: dict[str, Any], in_claims: dict[str, Any], repeated: str) -> None:
        all_claims = {**claims, **in_claims}
        text = json.dumps(all_claims)
        if repeated in all_claims:
            text = f'{text[:-1]}, "{repeated}": {json.dumps(all_claims[repeated])}}}'
        token = signed(keys, {**header, **in_header}, text.encode())
        world.tries += 1
        try:
            read = world.services.tokens.check_access_token(token)
        except CredentialRefused:
            return
        assert {**header, **in_header} == header
        assert repeated not in all_claims
        assert msgspec.to_builtins(read) == {k: v for k, v in all_claims.items() if k in {*claims, "nbf"}}
        assert read.iss == read.aud == "interlock"

    return target


def refresh_tokens(world: World) -> Callable[[], None]:
    """Fuzz texts, changed tokens, and any epoch and rotation with a valid MAC: never accepted, nor taken for theft."""

    @given(texts | letters, edits(), st.integers(min_value=2) | st.text(max_size=20))
    def target(text: str, change: Callable[[str], str], number: int | str) -> None:
        session_id, epoch, of_rotation, mac = world.refresh_token.split(".")
        numbers = {f"{epoch}.{number}", f"{number}.{of_rotation}"}
        changed = {text, change(world.refresh_token), *(f"{session_id}.{each}.{mac}" for each in numbers)}
        changed.discard(world.refresh_token)
        for token in changed:
            _refused(world, world.services.authenticator.by_refresh_token(token))

    return target


def tickets(world: World) -> Callable[[], None]:
    """Fuzz texts, and a valid ticket changed: never accepted."""
    ticket = world.run(world.services.tickets.issue(world.session, 2**53, world.services.keys.signing.kid))

    @given(texts | letters, edits())
    def target(text: str, change: Callable[[str], str]) -> None:
        for each in {text, change(ticket)} - {ticket}:
            try:
                world.run(world.services.authenticator.by_ticket(each))
            except CredentialInvalid:
                continue
            raise AssertionError("accepted")

    return target


def socket_messages(world: World) -> Callable[[], None]:
    """Fuzz texts as a message: an answer, a token to check, or a close; nothing else."""
    messages: list[dict[str, Any]] = [
        {"type": "ping"},
        {"type": "refresh", "access_token": "x"},
        {"type": "intent", "id": "x", "name": "notes.create", "parameters": {}},
        {"type": "cancel", "execution_id": "x"},
    ]

    @given(
        texts
        | anything.map(json.dumps)
        | st.tuples(
            st.sampled_from(messages),
            st.dictionaries(st.sampled_from(["type", "access_token", "id", "parameters", "execution_id"]), anything),
        ).map(lambda both: json.dumps({**both[0], **both[1]})),
        edits(),
    )
    def target(text: str, change: Callable[[str], str]) -> None:
        for each in (text, change(text), *(change(json.dumps(message)) for message in messages)):
            world.tries += 1
            conversation = Conversation(
                "con_x",
                world.session,
                authorised_until_ms=2**53,
                outbox_limit=8,
                ping_interval_ms=1,
                limits=Limits(message_bytes=1, unanswered=1),
                open_stream=lambda: Stream("e", StreamLimits(messages=1, bytes=1, age_ms=1, frame_bytes=1)),
            )
            request = conversation.receive_text(each)
            if conversation.closing is not None:
                assert request is None
                assert (conversation.closing.code, conversation.take()) == (4400, [])
                assert len(conversation.closing.reason.encode()) <= 123  # RFC 6455, 5.5: the content of a close frame
            elif request is not None:
                # A number in parameters may be larger than a float: it is passed on as it was written.
                assert msgspec.json.encode(request) == msgspec.json.encode(parse(each))
                assert json.loads(each)["type"] in {"refresh", "intent", "cancel"}
            else:
                assert json.loads(each) == {"type": "ping"}
                assert conversation.take() == [b'{"type":"pong"}']

    return target


def heads(world: World) -> Callable[[], None]:
    """Fuzz texts, the valid head changed, and any payload under a valid signature: only a head is accepted."""
    keys = world.services.keys
    public = {kid: key.public for kid, key in keys.verifying.items()}
    receipt = Receipt(812, "ab" * 32)
    good = sign_head(receipt, keys.signing, 1_000, final=True)
    payload = claims_of(good)
    head_changes = st.dictionaries(st.sampled_from(["position", "digest", "iat", "more"]), anything, max_size=2)

    @given(texts | letters, edits() | bit_flips(), changes, head_changes)
    def target(text: str, change: Callable[[str], str], in_header: dict[str, Any], in_payload: dict[str, Any]) -> None:
        header = {**usual_header(keys), "typ": "interlock-head+jwt"}
        own = signed(keys, {**header, **in_header}, {**payload, **in_payload})
        for each in {text, change(good), own} - {good}:
            world.tries += 1
            try:
                read_head(each)
                head = check_head(each, public)
            except HeadRefused:
                continue
            assert each == own
            assert {**header, **in_header} == header
            assert {**payload, **in_payload} == msgspec.to_builtins(head)

    return target


def bodies(world: World) -> Callable[[], None]:
    """Fuzz bytes, and any members, as the body of every call with one: a problem, never a fault of the server."""
    good: dict[str, dict[str, Any]] = {
        "/api/session": {},
        "/api/auth/register": {"email": "x", "password": "y"},
        "/api/auth/login": {"email": "nobody@example.org", "password": "y"},
        "/api/auth/refresh": {"refresh_token": "x"},
        "/api/auth/password": {"current_password": "x", "new_password": "y"},
        "/api/auth/logout": {"more": 1},
        "/api/intents": {"id": "x", "name": "y.z", "parameters": {}},
    }
    members = st.dictionaries(
        st.sampled_from(
            ["email", "password", "refresh_token", "current_password", "new_password", "id", "parameters", "more"]
        ),
        anything,
    )
    raw = st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode())

    @given(st.sampled_from(sorted(good)), raw, members, edits())
    def target(path: str, content: bytes, more: dict[str, Any], change: Callable[[str], str]) -> None:
        changed = change(json.dumps({**good[path], **more})).encode("utf-8", "surrogatepass")
        for body in (content, json.dumps({**good[path], **more}).encode(), changed):
            headers = {"content-type": "application/json"}
            _answered(world, world.run(world.http.post(path, content=body, headers=headers)))

    return target


def forms(world: World) -> Callable[[], None]:
    """Fuzz bytes as the form of introspection and revocation, from a registered client and from a stranger."""
    auth = ("gateway", world.secret)

    @given(st.binary(max_size=200), texts, edits() | bit_flips(), edits(), st.sampled_from(["introspect", "revoke"]))
    def target(content: bytes, text: str, change: Callable[[str], str], edit: Callable[[str], str], call: str) -> None:
        path, headers = f"/oauth/{call}", {"content-type": "application/x-www-form-urlencoded"}
        _answered(world, world.run(world.http.post(path, content=content, headers=headers, auth=auth)))
        by_nobody = world.run(world.http.post(path, content=content, headers=headers))
        _answered(world, by_nobody)
        assert by_nobody.status_code in {400, 401}
        for token in {text, change(world.access_token)} - {world.access_token, ""}:
            data = {"token": token.encode("utf-8", "surrogatepass").decode("utf-8", "replace")}
            answer = world.run(world.http.post(path, data=data, auth=auth))
            assert (answer.status_code, answer.json()) in ((200, {"active": False}), (200, {"ended": 0}))
        for secret in {text, edit(world.secret)} - {world.secret}:
            data = {"token": world.access_token, "client_id": "gateway", "client_secret": secret}
            if secret.isprintable():
                assert world.run(world.http.post(path, data=data)).status_code in {400, 401}
            basic = base64.b64encode(f"gateway:{secret}".encode("utf-8", "surrogatepass")).decode()
            answer = world.run(world.http.post(path, data={"token": "x"}, headers={"authorization": f"Basic {basic}"}))
            assert answer.status_code == 401

    return target


def _answered(world: World, answer: httpx.Response) -> None:
    world.tries += 1
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"].startswith("urn:interlock:problem:")


TARGETS: dict[str, Callable[[World], Callable[[], None]]] = {
    "access tokens": access_tokens,
    "signed claims": signed_claims,
    "refresh tokens": refresh_tokens,
    "tickets": tickets,
    "WebSocket messages": socket_messages,
    "heads": heads,
    "JSON bodies": bodies,
    "forms": forms,
    "requests on a connection": connections.requests,
    "frames on a connection": connections.frames,
}
