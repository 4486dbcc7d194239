"""Every setting, once: its name, default, unit and meaning. Flags, environment, TOML file and docs are derived from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from interlock.machine.limits import RATE_PATTERN
from interlock.machine.session.commands import Policy

HEAD_NAME: Final = "interlock.head"


def _wanted(words: str, pattern: str | None = None) -> Meta:
    """What a value has to be, in words: said instead of the pattern when it is something else."""
    return Meta(pattern=pattern, extra={"wanted": words})


_PORT: Final = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"  # 1 to 65535

Origin = Annotated[
    str,
    _wanted(
        "an origin as browsers write it, such as https://app.example.org: in lower case, with no path and no / at the end",
        rf"^[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:{_PORT})?$|^[a-z]+://\[[0-9a-f:]+\](:{_PORT})?$",
    ),
]
"""As a browser writes it (RFC 6454, 6.1): lower case, without a path. ``null`` and ``*`` are none: they would be anybody."""

Seconds = Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
RateText = Annotated[
    str, _wanted("a rate such as 90/1m (a number, and how many s, m, h or d it is for), or off", RATE_PATTERN)
]
Algorithm = Annotated[Literal["RS256", "PS256", "ES256", "EdDSA"], _wanted("RS256, PS256, ES256 or EdDSA")]


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration of one server."""

    host: Annotated[str, Meta(min_length=1), _doc("Address to listen on; 0.0.0.0 or :: for every one.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), _doc("Port to listen on; 0 takes a free one.")] = 8700
    data: Annotated[str, Meta(min_length=1), _doc("Folder of the log (interlock.db) and the keys (keys/).")] = "data"
    head: Annotated[
        str,
        _doc("File of the chain's signed head, perhaps on another disk; if empty, interlock.head in the data folder."),
    ] = ""
    at_least: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1),
        _doc(
            "Position that the log must have reached, else the start is refused: it shows a log and head rolled back together."
        ),
    ] = 0
    new_head: Annotated[
        bool,
        _doc(
            "Sign the log as it is, whatever its head says, or without one: for one start, after log, head or keys were"
            " exchanged on purpose."
        ),
    ] = False
    node: Annotated[str, Meta(min_length=1, max_length=64), _doc("Name of this server in the log's connections.")] = (
        "node-1"
    )

    origins: Annotated[
        tuple[Origin, ...],
        _doc(
            "Browser origins whose pages may open WebSockets, post, and read answers (CORS), besides the server's own;"
            " comma-separated."
        ),
    ] = ()
    issuer: Annotated[str, Meta(min_length=1, max_length=255), _doc("`iss` of access tokens.")] = "interlock"
    audience: Annotated[str, Meta(min_length=1, max_length=255), _doc("`aud` and `client_id` of access tokens.")] = (
        "interlock"
    )

    idle_timeout_s: Annotated[Seconds, _doc("A session without activity for this long expires.")] = 1800.0
    absolute_timeout_s: Annotated[Seconds, _doc("A session expires this long after its last login.")] = 43_200.0
    recent_login_s: Annotated[
        Seconds, _doc("Ending other sessions needs a login on this one at most this long ago.")
    ] = 900.0
    access_token_s: Annotated[Count, _doc("Life of an access token, in whole seconds.")] = 300
    refresh_grace_s: Annotated[
        float,
        Meta(ge=0, le=300),
        _doc(
            "How long a refresh token that was exchanged is still answered, and an answer may be under way (tabs). A copy is"
            " found out where its owner refreshes less often than every two graces: keep it below half of `access_token_s`."
        ),
    ] = 10.0
    ticket_s: Annotated[Seconds, _doc("Life of a WebSocket ticket.")] = 30.0

    upstream_issuer: Annotated[
        str, _doc("`iss` of the OpenID Connect provider whose ID tokens open sessions, an https address; empty: none.")
    ] = ""
    upstream_audiences: Annotated[
        tuple[str, ...],
        _doc(
            "Client ids at that provider whose ID tokens are taken; comma-separated. A token for anybody else is refused."
        ),
    ] = ()
    upstream_algorithms: Annotated[
        tuple[Algorithm, ...],
        _doc("Signature algorithms taken of the provider: RS256, PS256, ES256, EdDSA; comma-separated."),
    ] = ("RS256",)
    upstream_jwks_uri: Annotated[
        str, _doc("Address of the provider's keys; if empty, the provider's discovery document says it.")
    ] = ""
    upstream_groups_claim: Annotated[
        str, _doc("Claim whose list of names becomes the account's groups at each exchange; empty leaves groups alone.")
    ] = "groups"
    upstream_accounts: Annotated[
        str,
        _wanted("any or known", "^(any|known)$"),
        _doc("any: the first exchange of somebody makes their account; known: only those who have one are let in."),
    ] = "any"
    upstream_token_age_s: Annotated[Count, _doc("How long after it was issued an ID token is taken, at most.")] = 300
    upstream_auth_age_s: Annotated[
        int,
        Meta(ge=0, le=10 * 366 * 86_400),
        _doc("How long ago the login at the provider (`auth_time`) may be, at most; 0 does not ask."),
    ] = 0
    upstream_acr: Annotated[
        tuple[str, ...],
        _doc(
            "Strengths of the login (`acr`), one of which the ID token must name; comma-separated; empty does not ask."
        ),
    ] = ()
    upstream_keys_s: Annotated[Seconds, _doc("The provider's keys are fetched anew after this long.")] = 600.0
    upstream_stale_s: Annotated[
        Seconds, _doc("While the provider can't be reached, its keys are used up to this long after they were fetched.")
    ] = 3600.0
    upstream_retry_s: Annotated[
        Seconds, _doc("Time between two attempts to fetch keys, however many tokens name one that is not known.")
    ] = 10.0

    connections_per_session: Annotated[Count, _doc("Live WebSockets a session may hold.")] = 8
    connections_total: Annotated[Count, _doc("Live WebSockets the server holds before it refuses more with 503.")] = (
        50_000
    )
    connections_per_account: Annotated[Count, _doc("Live WebSockets an account may hold, over all its sessions.")] = 64
    connections_policy: Annotated[
        str,
        _wanted("refuse or displace", "^(refuse|displace)$"),
        _doc(
            "What happens to one WebSocket more than a session or account may hold: refuse it (4429), or displace the "
            "oldest (4409)."
        ),
    ] = "refuse"
    ping_interval_s: Annotated[Seconds, _doc("How often the server pings each WebSocket.")] = 20.0
    ping_timeout_s: Annotated[Seconds, _doc("How long it waits for the pong before it closes with 4504.")] = 20.0
    send_timeout_s: Annotated[
        Seconds,
        _doc(
            "A client that takes nothing of what is sent to it for this long is cut; a slow one that goes on reading is not."
        ),
    ] = 5.0
    limit_frames: Annotated[
        RateText,
        _doc(
            "Of one WebSocket: frames, and one more for each full 4 KiB of one; beyond it is closed with 4420; or off."
        ),
    ] = "2000/1s"
    handshake_timeout_s: Annotated[
        Seconds, _doc("How long a WebSocket handshake may take to prove itself, waiting for others included.")
    ] = 10.0
    tcp_total: Annotated[
        Count,
        _doc(
            "TCP connections a port holds, WebSockets among them; one more is cut. Fewer, if the limit of open files less 128"
            " does not suffice for all ports; the log says so (`descriptors.limited`)."
        ),
    ] = 60_000
    tcp_per_address: Annotated[
        Count, _doc("TCP connections of one address (IPv6: of one /64) to a port; trusted proxies are not counted.")
    ] = 1_000
    header_bytes: Annotated[
        int,
        Meta(ge=1024, le=1024 * 1024),
        _doc("Size of a request's line and headers; a larger one is answered with 431."),
    ] = 16_384
    header_timeout_s: Annotated[
        Seconds, _doc("How long the head of a request may take, and a new TCP connection may say nothing.")
    ] = 10.0
    body_timeout_s: Annotated[Seconds, _doc("How long the body of a request may take.")] = 20.0
    keep_alive_s: Annotated[
        Count,
        _doc("An idle HTTP connection is kept this long; let it be longer than the proxy in front keeps its own."),
    ] = 75
    drain_s: Annotated[Seconds, _doc("How long a stopping server waits for requests and sockets to end.")] = 10.0

    trusted_proxies: Annotated[
        tuple[str, ...],
        _doc("Proxies (addresses or networks) whose word about the client's address counts; comma-separated."),
    ] = ()
    forwarded_header: Annotated[
        str,
        _wanted("x-forwarded-for or forwarded", "^(x-forwarded-for|forwarded)$"),
        _doc("The header in which they say it: x-forwarded-for or forwarded. The other one is not read."),
    ] = "x-forwarded-for"
    uncounted: Annotated[
        tuple[str, ...],
        _doc("Networks whose clients may ask as much as they like; failed logins are always counted. Comma-separated."),
    ] = ("127.0.0.0/8", "::1/128")
    limit_address: Annotated[
        RateText,
        _doc(
            "Of one address: logins, refreshes, exchanges, tickets, handshakes and password changes, each; such as 90/1m,"
            " or off."
        ),
    ] = "1200/1m"
    limit_account: Annotated[
        RateText, _doc("Of one account: logins, refreshes, tickets and WebSocket handshakes, each.")
    ] = "120/1m"
    limit_begin: Annotated[RateText, _doc("Of one address: anonymous sessions begun.")] = "600/1m"
    limit_anonymous: Annotated[
        RateText,
        _doc(
            "Of all clients together: what is written for those who have not logged in (a session begun, its refreshes and"
            " activity, an account registered). Each is up to 1 KiB that is never removed."
        ),
    ] = "6000/1m"
    limit_register: Annotated[RateText, _doc("Of one address: tries to register.")] = "60/1h"
    limit_login_address: Annotated[RateText, _doc("Of one address: failed logins, over all accounts.")] = "100/10m"
    limit_login_client: Annotated[
        RateText, _doc("Of one account at one address, or on one known device: failed logins.")
    ] = "10/15m"
    limit_login_account: Annotated[
        RateText, _doc("Of one account: failed logins from addresses and devices it has not logged in from before.")
    ] = "100/1h"
    refusal_delay_s: Annotated[
        float,
        Meta(ge=0, le=10),
        _doc(
            "An answer with Retry-After waits about this long itself, so that a flood of them keeps the server less busy."
        ),
    ] = 1.0
    limit_password: Annotated[RateText, _doc("Of one session: wrong current passwords at a change.")] = "10/15m"  # noqa: S105  # a rate

    password_context_words: Annotated[
        tuple[str, ...],
        _doc("Words that make a password easy to guess here (the organisation, its products); comma-separated."),
    ] = ()
    password_blocklist: Annotated[
        str, _doc("File of more passwords to refuse, one a line, such as those of known breaches; empty for none.")
    ] = ""
    argon2_memory_kib: Annotated[int, Meta(ge=19_456, le=4_194_304), _doc("Memory of one password hash, in KiB.")] = (
        19_456
    )
    argon2_iterations: Annotated[int, Meta(ge=2, le=1000), _doc("Passes of one password hash.")] = 2
    argon2_workers: Annotated[
        Count, _doc("Password hashes computed at a time: of known devices, and of strangers, each as many.")
    ] = 2
    argon2_queue: Annotated[
        int,
        Meta(ge=1, le=1024),
        _doc(
            "Password hashes that may wait before logins get 503: of known devices, and of strangers, each as many."
            " A login that finds the queue full costs the event loop time in proportion."
        ),
    ] = 128

    cached_sessions: Annotated[Count, _doc("Sessions kept in memory; the others are one read away.")] = 200_000
    log_queue: Annotated[Count, _doc("Writes that may wait for the disk before callers get 503.")] = 20_000
    disk_reserve_mib: Annotated[
        int,
        Meta(ge=0, le=2**40),
        _doc(
            "Free space of the data folder's disk, in MiB, below which only ends and disconnects are recorded; 0: none."
        ),
    ] = 256
    clock_behind_s: Annotated[
        Seconds,
        _doc(
            "How far the machine's clock may be behind the newest record at a start: further, and the start is refused."
        ),
    ] = 3600.0
    trace: Annotated[
        str, _doc("File to append a trace to, one JSON line for each thing done, for checking; empty writes none.")
    ] = ""
    log_level: Annotated[
        str,
        _wanted("debug, info, warning or error", "^(debug|info|warning|error)$"),
        _doc("debug, info, warning or error."),
    ] = "info"
    log_json: Annotated[bool, _doc("Log JSON lines instead of text for people.")] = False
    access_log: Annotated[bool, _doc("Log each answered request and each WebSocket's beginning and end, too.")] = False
    trust_ids: Annotated[
        bool,
        _doc(
            "Take a request's id from its `X-Request-Id` (and a span's parent from `traceparent`). Only where a proxy sets it."
        ),
    ] = False
    metrics_host: Annotated[str, Meta(min_length=1), _doc("Address to serve metrics on, if `metrics_port` is set.")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        _doc("Port to serve Prometheus metrics on; 0 takes a free one; without it there are none."),
    ] = None
    otel_endpoint: Annotated[
        str,
        _doc(
            "OTLP/HTTP receiver of OpenTelemetry spans, such as `http://127.0.0.1:4318`; empty sends none. Needs"
            " `interlock[otel]`; other `OTEL_…` variables hold as the SDK reads them."
        ),
    ] = ""

    cheap_passwords_for_tests: bool = False
    """Password hashes that cost nothing and protect nothing. Only INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS=1 sets it: no flag, no
    file."""

    @property
    def head_path(self) -> Path:
        """Where the signed head of the chain lies."""
        return Path(self.head) if self.head else Path(self.data) / HEAD_NAME

    @property
    def policy(self) -> Policy:
        """What new sessions live under."""
        return Policy(
            idle_timeout_ms=_ms(self.idle_timeout_s),
            absolute_timeout_ms=_ms(self.absolute_timeout_s),
            connection_limit=self.connections_per_session,
            refresh_grace_ms=_ms(self.refresh_grace_s),
        )


_MS_PER_S: Final = 1000


def _ms(seconds: float) -> int:
    return round(seconds * _MS_PER_S)
