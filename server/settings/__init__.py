"""Every setting, with its default, unit and meaning. Flags, environment variables, TOML keys and docs are derived from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from interlock.machine.session.commands import Policy
from interlock.server.settings.deployment import DeploymentSettings
from interlock.server.settings.types import Algorithm, Count, GroupText, RateText, RealmPath, Seconds, doc, wanted

HEAD_NAME: Final = "interlock.head"
DEMO_REALMS: Final = ("interlock.examples.notes:realm", "interlock.examples.agent:realm")


class Settings(DeploymentSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The configuration of one server."""

    data: Annotated[str, Meta(min_length=1), doc("Folder of the log (interlock.db) and the keys (keys/).")] = "data"
    head_file: Annotated[
        str,
        doc("File of the log's signed head, for example on another disk; if empty, DATA/interlock.head."),
    ] = ""
    at_least: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1),
        doc("Refuse to start if the log ends before this position: log and head may have been rolled back together."),
    ] = 0
    new_head: Annotated[
        bool,
        doc(
            "Ignore the old head, or its absence, and sign the log in its present state. Use it for one start, after log,"
            " head or keys were replaced on purpose."
        ),
    ] = False
    node: Annotated[
        str, Meta(min_length=1, max_length=64), doc("Name of this server in the log's connection records.")
    ] = "node-1"

    realm: Annotated[
        tuple[RealmPath, ...],
        doc(
            "Realms, the application's code that handles intents, besides those of installed packages; each as"
            " `package.module:name`, or a TOML file that declares a remote realm; comma-separated."
        ),
    ] = ()
    issuer: Annotated[str, Meta(min_length=1, max_length=255), doc("`iss` of access tokens.")] = "interlock"
    audience: Annotated[str, Meta(min_length=1, max_length=255), doc("`aud` and `client_id` of access tokens.")] = (
        "interlock"
    )

    idle_timeout_s: Annotated[Seconds, doc("A session without activity for this long expires.")] = 1800.0
    absolute_timeout_s: Annotated[Seconds, doc("A session expires this long after its last login.")] = 43_200.0
    recent_login_s: Annotated[
        Seconds, doc("Ending other sessions, or the account, needs a login on this one at most this long ago.")
    ] = 900.0
    access_token_s: Annotated[Count, doc("Lifetime of an access token, in whole seconds.")] = 300
    refresh_grace_s: Annotated[
        float,
        Meta(ge=0, le=300),
        doc(
            "How long an exchanged refresh token is still accepted: other tabs have it, and the response may be under way. A"
            " copy is detected if its owner refreshes less often than every two such periods: keep it below half of"
            " `access_token_s`."
        ),
    ] = 10.0
    ticket_s: Annotated[Seconds, doc("Lifetime of a WebSocket ticket.")] = 30.0

    console_look: Annotated[
        GroupText,
        doc(
            "Group whose members may look at `/console`, the console of operators; empty: none. Both empty: no console."
        ),
    ] = ""
    console_act: Annotated[
        GroupText, doc("Group whose members may also act in the console: end sessions, disable accounts; empty: none.")
    ] = ""
    console_session_s: Annotated[
        Seconds, doc("An operator's session in the console ends this long after the login.")
    ] = 3600.0

    device_history_s: Annotated[
        float,
        Meta(ge=0, le=10 * 366 * 86_400),
        doc(
            "How long the device and address of a session are kept after its last login or refresh, for its owner and"
            " administrators; 0 keeps none."
        ),
    ] = 604_800.0

    reset_code_s: Annotated[Seconds, doc("How long a code that an administrator issues can set another password.")] = (
        900.0
    )

    oidc_issuer: Annotated[
        str, doc("`iss` of the OpenID Connect provider whose ID tokens are accepted, an https URL; empty: none.")
    ] = ""
    oidc_audiences: Annotated[
        tuple[str, ...],
        doc(
            "Client ids at that provider whose ID tokens are accepted; comma-separated. Tokens for other audiences are refused."
        ),
    ] = ()
    oidc_algorithms: Annotated[
        tuple[Algorithm, ...],
        doc("Signature algorithms accepted from the provider: RS256, PS256, ES256, EdDSA; comma-separated."),
    ] = ("RS256",)
    oidc_jwks_uri: Annotated[
        str, doc("URL of the provider's keys; if empty, it is read from the provider's discovery document.")
    ] = ""
    oidc_groups_claim: Annotated[
        str,
        doc("Claim whose list of names becomes the account's groups at each exchange; empty leaves groups unchanged."),
    ] = "groups"
    oidc_accounts: Annotated[
        str,
        wanted("any or known", "^(any|known)$"),
        doc("any: a user's first exchange creates their account; known: only users who have an account may log in."),
    ] = "any"
    oidc_token_age_s: Annotated[Count, doc("Maximum age of an ID token, since it was issued.")] = 300
    oidc_auth_age_s: Annotated[
        int,
        Meta(ge=0, le=10 * 366 * 86_400),
        doc("Maximum age of the login at the provider (`auth_time`); 0 does not check it."),
    ] = 0
    oidc_acr: Annotated[
        tuple[str, ...],
        doc("Accepted strengths of the login (`acr`); the ID token must name one; comma-separated; empty accepts all."),
    ] = ()
    oidc_keys_s: Annotated[Seconds, doc("The provider's keys are fetched again after this time.")] = 600.0
    oidc_stale_s: Annotated[
        Seconds, doc("While the provider can't be reached, its keys are used for this long after they were fetched.")
    ] = 3600.0
    oidc_retry_s: Annotated[
        Seconds, doc("Minimum time between two attempts to fetch keys, even if many tokens name unknown keys.")
    ] = 10.0

    connections_per_session: Annotated[Count, doc("Live WebSockets that a session may have.")] = 8
    connections_total: Annotated[Count, doc("Live WebSockets that the server accepts; more are refused with 503.")] = (
        50_000
    )
    connections_per_account: Annotated[Count, doc("Live WebSockets that an account may have in all its sessions.")] = 64
    connections_policy: Annotated[
        str,
        wanted("refuse or displace", "^(refuse|displace)$"),
        doc(
            "What happens to a WebSocket beyond the limit of its session or account: refuse it (4429), or displace the"
            " oldest one (4409)."
        ),
    ] = "refuse"
    executions_per_session: Annotated[Count, doc("Executions without an outcome that a session may have.")] = 64
    executions_per_account: Annotated[
        Count, doc("Executions without an outcome that an account may have in all its sessions.")
    ] = 256
    executions_per_realm: Annotated[Count, doc("Executions without an outcome that a realm may have.")] = 4096
    executions_depth: Annotated[Count, doc("How long a chain of executions may be in which each submits the next.")] = 4
    limit_submit: Annotated[
        RateText, doc("Rate limit of one account: intents that its running executions submit; such as 600/1m, or off.")
    ] = "600/1m"
    ping_interval_s: Annotated[Seconds, doc("How often the server pings each WebSocket.")] = 20.0
    ping_timeout_s: Annotated[
        Seconds, doc("How long the server waits for a pong before it closes the WebSocket with 4504.")
    ] = 20.0
    send_timeout_s: Annotated[
        Seconds,
        doc(
            "A client that reads nothing of what is sent to it for this long is disconnected; a slow client that keeps reading"
            " is not."
        ),
    ] = 5.0
    resume_s: Annotated[
        Seconds,
        doc(
            "How long messages about executions are kept for a WebSocket that was interrupted and resumes; how long a session's"
            " stream of them lasts after its last WebSocket."
        ),
    ] = 120.0
    streams_mib: Annotated[
        int,
        Meta(ge=1, le=2**20),
        doc("Memory of the messages about executions that are kept for all WebSockets together, in MiB."),
    ] = 64
    limit_frames: Annotated[
        RateText,
        doc(
            "Rate limit of one WebSocket: each frame counts 1, plus 1 for each full 4 KiB; beyond it, close with 4420; or off."
        ),
    ] = "2000/1s"
    handshake_timeout_s: Annotated[
        Seconds, doc("How long the authentication of a WebSocket handshake may take, waiting time included.")
    ] = 10.0
    tcp_total: Annotated[
        Count,
        doc(
            "TCP connections that a port accepts, including WebSockets; more are cut. Lowered if the limit of open files, less"
            " 128, does not suffice for all ports; the log then says `descriptors.limited`."
        ),
    ] = 60_000
    tcp_per_address: Annotated[
        Count, doc("TCP connections from one address (IPv6: one /64) to a port; trusted proxies are not counted.")
    ] = 1_000
    header_bytes: Annotated[
        int,
        Meta(ge=1024, le=1024 * 1024),
        doc("Maximum size of a request's line and headers; larger ones are answered with 431."),
    ] = 16_384
    header_timeout_s: Annotated[
        Seconds,
        doc("How long a request's line and headers may take to arrive, and a new TCP connection may be silent."),
    ] = 10.0
    body_timeout_s: Annotated[Seconds, doc("How long the body of a request may take to arrive.")] = 20.0
    keep_alive_s: Annotated[
        Count,
        doc("How long an idle HTTP connection is kept open; set it longer than the proxy in front keeps its own."),
    ] = 75
    drain_s: Annotated[Seconds, doc("How long a stopping server waits for requests and sockets to end.")] = 10.0

    outgoing_networks: Annotated[
        tuple[str, ...],
        doc(
            "Private networks where webhooks and remote realms may be, also by plain HTTP; comma-separated. All others must be"
            " https URLs of public addresses."
        ),
    ] = ()
    rate_limit_exempt: Annotated[
        tuple[str, ...],
        doc(
            "Networks whose clients `limit_address`, `limit_session_create`, `limit_register`, `limit_account` and"
            " `limit_intent` do not count; failed logins and `limit_anonymous` always count them. Comma-separated."
        ),
    ] = ("127.0.0.0/8", "::1/128")
    limit_address: Annotated[
        RateText,
        doc(
            "Rate limit of one address for each of: logins, refreshes, exchanges, tickets, handshakes, password changes; such"
            " as 90/1m, or off."
        ),
    ] = "1200/1m"
    limit_account: Annotated[
        RateText,
        doc(
            "Rate limit of one account for each of: logins, refreshes, tickets, WebSocket handshakes, password changes,"
            " exchanges."
        ),
    ] = "120/1m"
    limit_intent: Annotated[
        RateText, doc("Rate limit of one account: intents, over HTTP and WebSockets together; repeats count.")
    ] = "600/1m"
    limit_session_create: Annotated[RateText, doc("Rate limit of one address: new anonymous sessions.")] = "600/1m"
    limit_anonymous: Annotated[
        RateText,
        doc(
            "Rate limit of all clients together: records written for anonymous clients (new sessions, their refreshes and"
            " activity, registrations). Each record is up to 1 KiB that is never removed."
        ),
    ] = "6000/1m"
    limit_register: Annotated[RateText, doc("Rate limit of one address: attempts to register.")] = "60/1h"
    limit_login_address: Annotated[RateText, doc("Rate limit of one address: failed logins, over all accounts.")] = (
        "100/10m"
    )
    limit_login_client: Annotated[
        RateText, doc("Rate limit of one account from one address, or on one known device: failed logins.")
    ] = "10/15m"
    limit_login_account: Annotated[
        RateText, doc("Rate limit of one account: failed logins from all unknown addresses and devices together.")
    ] = "100/1h"
    refusal_delay_s: Annotated[
        float,
        Meta(ge=0, le=10),
        doc("Delay of a response with Retry-After, so that a flood of refused requests costs the server less."),
    ] = 1.0
    limit_password: Annotated[
        RateText, doc("Rate limit of one session: wrong current passwords at a password change.")
    ] = "10/15m"  # noqa: S105  # a rate

    password_context_words: Annotated[
        tuple[str, ...],
        doc("Words that make a password easy to guess here (the organisation, its products); comma-separated."),
    ] = ()
    password_blocklist: Annotated[
        str, doc("File of additional passwords to refuse, one on each line, such as breached ones; empty: none.")
    ] = ""
    argon2_memory_kib: Annotated[int, Meta(ge=19_456, le=4_194_304), doc("Memory of one password hash, in KiB.")] = (
        19_456
    )
    argon2_iterations: Annotated[int, Meta(ge=2, le=1000), doc("Iterations of one password hash.")] = 2
    argon2_workers: Annotated[
        Count, doc("Password hashes computed at a time for known devices, and as many for others.")
    ] = 2
    argon2_queue: Annotated[
        int,
        Meta(ge=1, le=1024),
        doc(
            "Password hashes that may wait for known devices, and as many for others, before logins get 503."
            " A longer queue makes each refused login cost more event loop time."
        ),
    ] = 128

    session_cache_size: Annotated[Count, doc("Sessions kept in memory; others are read from the disk.")] = 200_000
    write_queue: Annotated[Count, doc("Writes that may wait for the disk before callers get 503.")] = 20_000
    disk_reserve_mib: Annotated[
        int,
        Meta(ge=0, le=2**40),
        doc(
            "If the data folder's disk has less free space than this, in MiB, only ends, disconnects, password changes,"
            " disables and new secrets are recorded; 0: off."
        ),
    ] = 256
    clock_behind_s: Annotated[
        Seconds,
        doc("Refuse to start if the machine's clock is further than this behind the newest record of the log."),
    ] = 3600.0
    model_trace: Annotated[
        str, doc("File to append a trace to, for checks against the model: one JSON line for each step; empty: none.")
    ] = ""
    log_level: Annotated[
        str,
        wanted("debug, info, warning or error", "^(debug|info|warning|error)$"),
        doc("debug, info, warning or error."),
    ] = "info"
    log_json: Annotated[bool, doc("Log JSON lines instead of text.")] = False
    access_log: Annotated[bool, doc("Also log each answered request, and each WebSocket's start and end.")] = False
    trust_request_ids: Annotated[
        bool,
        doc(
            "Trust the client's `X-Request-Id` (and `traceparent` as a span's parent). Use it only if a proxy sets them."
        ),
    ] = False
    metrics_host: Annotated[str, Meta(min_length=1), doc("Address to serve metrics on, if `metrics_port` is set.")] = (
        "127.0.0.1"
    )
    metrics_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        doc("Port to serve Prometheus metrics on; 0 chooses a free one; if not set, metrics are off."),
    ] = None
    otel_endpoint: Annotated[
        str,
        doc(
            "OTLP/HTTP receiver of OpenTelemetry spans, such as `http://127.0.0.1:4318`; empty sends none. Needs"
            " `interlock[otel]`; other `OTEL_…` variables work as in the SDK."
        ),
    ] = ""

    cheap_passwords_for_tests: bool = False
    """Make password hashes cost and protect nothing. Only INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS=1 sets it, no flag or file."""

    @property
    def head_path(self) -> Path:
        """The path of the log's signed head."""
        return Path(self.head_file) if self.head_file else Path(self.data) / HEAD_NAME

    @property
    def realms(self) -> tuple[str, ...]:
        """The realms to load, those of the demo included."""
        return (*self.realm, *(DEMO_REALMS if self.demo else ()))

    @property
    def policy(self) -> Policy:
        """The policy of new sessions."""
        return Policy(
            idle_timeout_ms=_ms(self.idle_timeout_s),
            absolute_timeout_ms=_ms(self.absolute_timeout_s),
            connection_limit=self.connections_per_session,
            refresh_grace_ms=_ms(self.refresh_grace_s),
        )


_MS_PER_S: Final = 1000


def _ms(seconds: float) -> int:
    return round(seconds * _MS_PER_S)
