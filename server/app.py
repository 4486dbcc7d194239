"""Wiring: the only place where the parts are put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog
from litestar import Litestar
from litestar.datastructures import State
from litestar.enums import HttpMethod, ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.types import Message, Scope

from machine.closing import Close
from machine.errors import HeadRefused
from machine.wire import rfc3339
from server.clock import SystemClock
from server.experience import auth_api, oauth_api, operations_api, sessions_api
from server.experience.credentials import COOKIE_NAME
from server.experience.openapi import complete
from server.experience.problems import handle
from server.experience.requests import JsonRequest
from server.experience.socket import connect
from server.guard.accounts import Accounts
from server.guard.heads import check_head, sign_head
from server.guard.keyring import KeyRing
from server.guard.keys import Keys, load_public_keys
from server.guard.passwords import Passwords
from server.guard.rotation import Lives, note_lives
from server.guard.secrets import Secrets
from server.guard.tickets import Tickets
from server.guard.tokens import Tokens
from server.runtime.connections import Connections
from server.runtime.expiry import Expiry
from server.runtime.recovery import disconnect_orphans, trace_missed
from server.runtime.sessions import Sessions
from server.services import Services
from server.settings import Settings
from server.surface.files import open_surface
from server.surface.head import HeadKeeper, check_log, read_text
from server.trace import open_trace

_log = structlog.get_logger("interlock.server")

_NO_CONTENT: Final = 204
_BODY_LIMIT: Final = 64 * 1024
_ORPHANS_AT_ONCE: Final = 1024
_CLOCK_TOLERANCE_MS: Final = 5_000

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def create_app(settings: Settings) -> Litestar:
    """The ASGI application for any server that speaks lifespan.

    Its lifespan opens the log, puts right what a crash left, and closes everything again.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            yield

    return _build([lifespan], State())


def app_over(services: Services) -> Litestar:
    """The ASGI application over ``services`` that the caller has opened and will close."""
    return _build([], State({"services": services}))


def _build(lifespan: list[Callable[[Litestar], AbstractAsyncContextManager[None]]], state: State) -> Litestar:
    app = Litestar(
        route_handlers=[
            *sessions_api.HANDLERS,
            *auth_api.HANDLERS,
            *oauth_api.HANDLERS,
            *operations_api.HANDLERS,
            connect,
        ],
        lifespan=lifespan,
        state=state,
        exception_handlers={Exception: handle},
        before_send=[_add_headers],
        request_class=JsonRequest,
        request_max_body_size=_BODY_LIMIT,
        openapi_config=_openapi(),
        logging_config=None,
    )
    complete(app.openapi_schema)
    return app


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything the endpoints call, opened and recovered, until the context ends.

    Raises:
        SurfaceLocked, SurfaceFailed: the log can't be opened.
        SettingsError: the keys can't be used.
        HeadRefused: the log is not the one that its signed head speaks of.
    """
    data = Path(settings.data)
    connections = Connections()

    def stop(failure: str) -> None:
        # Fail-stop: what memory says may be ahead of the disk, so no socket stays open on it.
        _log.critical("surface.failed", failure=failure)
        connections.close_all(Close("internal_error"))

    # Before anything is opened for writing: a folder that somebody tampered with is left as it is found.
    has_head = _check_head(settings)
    async with (
        open_trace(settings) as trace,
        open_surface(data, max_waiting=settings.log_queue, on_failure=stop, on_commit=trace.appended) as surface,
    ):
        latest_ms = await surface.log.latest_at_ms()
        if latest_ms > SystemClock().now_ms() + _CLOCK_TOLERANCE_MS:
            _log.warning("clock.behind_the_log", newest_record=rfc3339(latest_ms), now=rfc3339(SystemClock().now_ms()))
        clock = SystemClock(floor_ms=latest_ms)
        ring = _open_keys(settings, clock)
        sessions = Sessions(
            surface.log, clock, policy=settings.policy, cache_limit=settings.cached_sessions, trace=trace
        )
        await trace_missed(surface.log, trace)
        newest = await surface.log.newest()
        if newest is not None and not has_head:
            _log.warning("head.missing", path=str(settings.head_path), newest_record=newest.receipt.position)
        keeper = HeadKeeper(
            settings.head_path, lambda receipt: sign_head(receipt, ring.keys.signing, clock.now_ms()), newest
        )
        surface.afterwards.push_async_callback(keeper.close)
        sessions.subscribe(keeper.observe)
        at_once = min(_ORPHANS_AT_ONCE, settings.log_queue)
        # This process alone has the log open, so whatever a node is called that opened a connection, it is dead.
        orphans = sum(
            [await disconnect_orphans(surface.log, sessions, n, at_once=at_once) for n in await surface.log.nodes()]
        )
        trace.recovered()
        expiry = Expiry(sessions, clock)
        expiry.restore(await surface.log.live_deadlines())
        sessions.subscribe(expiry.observe)
        sessions.subscribe(connections.observe)
        passwords = Passwords(
            memory_kib=8 if settings.cheap_passwords_for_tests else settings.argon2_memory_kib,
            iterations=1 if settings.cheap_passwords_for_tests else settings.argon2_iterations,
            workers=settings.argon2_workers,
            max_waiting=settings.argon2_queue,
        )
        services = Services(
            settings=settings,
            clock=clock,
            sessions=sessions,
            connections=connections,
            accounts=Accounts(surface.accounts, passwords, clock),
            tickets=Tickets(surface.tickets, clock, lifetime_ms=round(settings.ticket_s * 1000)),
            tokens=Tokens(
                ring.keys, clock, issuer=settings.issuer, audience=settings.audience, lifetime_s=settings.access_token_s
            ),
            keys=ring.keys,
            clients=Secrets(data / "keys", "client"),
            trace=trace,
        )

        def use(keys: Keys, retired_early: bool) -> None:  # noqa: FBT001  # KeyRing.watch says what it means
            services.keys = keys
            services.tokens.use(keys)
            keeper.renew()
            if retired_early:
                # Whoever had the key may hold sockets by tokens of their own making.
                connections.close_all(Close("token_expired"))

        expiring = asyncio.create_task(expiry.run(), name="interlock-expiry")
        watching = asyncio.create_task(ring.watch(use), name="interlock-keys")
        if settings.cheap_passwords_for_tests:
            _log.warning("passwords.unprotected", because="INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS is set")
        _log.info("server.ready", orphans_disconnected=orphans)
        try:
            yield services
        finally:
            for task in (watching, expiring):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            passwords.close()


def _open_keys(settings: Settings, clock: SystemClock) -> KeyRing:
    """The keys, and word for the command line of how long what they sign may live.

    Raises:
        SettingsError: a key can't be used.
    """
    folder = Path(settings.data) / "keys"
    lives = Lives(settings.access_token_s * 1000, settings.policy.absolute_timeout_ms)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lives = note_lives(folder, lives)
    except OSError as error:
        _log.warning("keys.lives_not_written", path=str(folder), error=str(error))
    return KeyRing(folder, clock, lives)


def _check_head(settings: Settings) -> bool:
    """Begin only on the log that the last head was signed for; whether there is a head. Without, nothing is compared.

    Raises:
        HeadRefused: the head is not good, or the log is another; the message says what to do.
    """
    try:
        text = read_text(settings.head_path)
        if text is not None:
            data = Path(settings.data)
            check_log(data, check_head(text, load_public_keys(data / "keys")).receipt)
    except HeadRefused as refused:
        raise HeadRefused(
            f"{settings.head_path}: {refused}. If the log or the keys were exchanged on purpose (an older copy was restored,"
            " say), remove this file and start again. If not, somebody changed them: keep everything as it is, and look at"
            " it with `interlock verify`"
        ) from None
    return text is not None


async def _add_headers(message: Message, scope: Scope) -> None:
    """Give every HTTP response the headers that keep a browser from guessing, framing, storing or telling."""
    if message["type"] == "http.response.start":
        headers = [*message.get("headers", ()), *_HEADERS]
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-store"))
        if (
            scope["type"] == ScopeType.HTTP
            and scope["method"] == HttpMethod.OPTIONS
            and message["status"] == _NO_CONTENT
        ):
            # Litestar answers with the methods of whichever handler of the path it met first.
            route = next(r for r in scope["litestar_app"].routes if r.path_format == scope["path_template"])
            headers = [(name, value) for name, value in headers if name != b"allow"]
            headers.append((b"allow", ", ".join(sorted(route.methods)).encode()))
        message["headers"] = headers


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Interlock",
        version=version("interlock"),
        summary="A session-lifecycle server.",
        description=(
            "Every session is an instance of one declared state machine: created → authenticated → connected → expired. "
            "Each transition is on disk before it is answered. Errors are RFC 9457 problem details with a stable `type`. "
            "The live connection is `WS /api/connect` (subprotocol `interlock.v1`)."
        ),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        path="/schema",
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"]), YamlRenderPlugin()],
        tags=[
            Tag(name="session", description="The caller's own session."),
            Tag(name="auth", description="Accounts and tokens."),
            Tag(name="sessions", description="All sessions of the caller's account."),
            Tag(name="standards", description="For other software."),
            Tag(name="operations", description="For whoever runs it."),
        ],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
                "cookie": SecurityScheme(type="apiKey", name=COOKIE_NAME, security_scheme_in="cookie"),
                "client": SecurityScheme(type="http", scheme="basic"),
            }
        ),
    )
