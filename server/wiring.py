"""Wiring: the only place that creates the services behind the endpoints.

Opening them also repairs what a crash left; closing them leaves nothing unfinished.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

import msgspec
import structlog

from interlock.loading import load_realms
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.machine.closing import Close
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.machines import MACHINES
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.realm import Realms
from interlock.server import signed_head
from interlock.server.clock import Clock, SystemClock
from interlock.server.guard.admins import Admins
from interlock.server.guard.keys.keyset import Keys
from interlock.server.guard.oidc.id_tokens import IdTokens
from interlock.server.guard.passwords.blocklist import Blocklist
from interlock.server.guard.passwords.hashing import Passwords
from interlock.server.guard.session_devices.kept import SessionDevices
from interlock.server.guard.subscribers import Subscribers
from interlock.server.guard.throttling.addresses import Addresses
from interlock.server.guard.throttling.devices import Devices
from interlock.server.guard.throttling.limits import RateLimit, RateLimits
from interlock.server.guard.throttling.logins import LoginLimits
from interlock.server.guard.throttling.pseudonyms import Pseudonyms
from interlock.server.guard.tickets import Tickets
from interlock.server.guard.tokens import Tokens
from interlock.server.opened_storage import Storage, newest_time, open_storage
from interlock.server.outgoing.destinations import Destinations
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.accounts.administration import Administration
from interlock.server.runtime.accounts.logins import Logins
from interlock.server.runtime.authenticator import Authenticator
from interlock.server.runtime.browser_sessions import BrowserSessions
from interlock.server.runtime.connection_limits import ConnectionLimits
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.console.console import begin_flow, open_console
from interlock.server.runtime.console.flow import Flow
from interlock.server.runtime.door import Door, patiently
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.runtime.events.webhooks import Webhooks
from interlock.server.runtime.executions.executions import Executions
from interlock.server.runtime.executions.live import ExecutionLimits
from interlock.server.runtime.executions.remote_realms import RemoteRealms
from interlock.server.runtime.executions.runner import Runner
from interlock.server.runtime.executions.streams import Streams
from interlock.server.runtime.expiry import Expiry
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.recovery import disconnect_orphans, end_left_over, trace_missed
from interlock.server.runtime.secret_records import OpenedSecrets, open_secrets
from interlock.server.runtime.sessions import Sessions
from interlock.server.runtime.tail import Tail
from interlock.server.services import Services
from interlock.server.settings import Settings
from interlock.server.surface.head import HeadKeeper
from interlock.server.surface.sqlite.files import Surface
from interlock.server.system.host import HostMonitor
from interlock.server.system.supervision import Supervisor, Work
from interlock.server.telemetry import security_log
from interlock.server.telemetry.metrics_recorder import MetricsRecorder

_log = structlog.get_logger("interlock.server")

_SALT_BYTES: Final = 16


class _Core(msgspec.Struct):
    """The parts that decide, and what they need."""

    clock: SystemClock
    host: HostMonitor
    secrets: OpenedSecrets
    sessions: Sessions
    accounts: Accounts
    account_sessions: AccountSessions
    devices: SessionDevices
    connections: Connections
    tail: Tail
    remote_realms: RemoteRealms
    executions: Executions
    runner: Runner
    streams: Streams
    flow: Flow | None


@asynccontextmanager
async def open_services(settings: Settings, realms: Realms | None = None) -> AsyncIterator[Services]:
    """Open and recover all services that endpoints use, until the context ends.

    The code of ``realms`` handles the intents. None: of the realms that the settings name.

    Raises:
        SurfaceLocked, SurfaceFailed: the log can't be opened.
        SettingsError: the keys can't be used.
        HeadRefused: the log does not match its signed head, or has none.
        ClockBehind: the machine's clock is too far behind the log's newest record.
    """
    connections, supervisor, remote = Connections(), Supervisor(), RemoteRealms.over(settings)
    realms = load_realms(settings.realms, remote.call) if realms is None else realms
    # Check the head before anything is opened for writing.
    head = signed_head.read_checked(settings)
    async with open_storage(settings, connections, supervisor) as storage, AsyncExitStack() as stack:
        stack.callback(supervisor.close)
        surface = storage.surface
        signed_head.require(settings, head, surface.last())
        clock = SystemClock(floor_ms=await newest_time(surface, settings))
        position = surface.last().position
        feed = Feed(surface.log)
        secrets = await open_secrets(settings, clock, feed, surface.directory)
        devices = SessionDevices(surface.devices, clock, round(settings.device_history_s * 1000))
        sessions = Sessions(
            feed,
            clock,
            policy=settings.policy,
            cache_limit=settings.session_cache_size,
            trace=storage.trace,
            devices=devices,
        )
        accounts = Accounts(feed, clock, surface.accounts, cache_limit=settings.session_cache_size)
        executions, runner = _executions(settings, storage, (feed, clock, sessions, accounts), realms)
        streams = stack.enter_context(closing(Streams(executions, connections, clock, settings)))
        _follow(feed, connections, streams, runner)
        doors = (sessions, accounts, secrets.records, executions)
        remote.metrics = storage.watchers.metrics = await _watch(feed, doors, settings, clock)
        flow = await begin_flow(settings, feed, doors, connections, clock)
        await trace_missed(surface.log, storage.trace)
        keeper = await signed_head.keep(
            settings, surface, supervisor, head, lambda: (secrets.ring.keys.signing, clock.now_ms())
        )
        feed.subscribe(keeper.observe)
        tail = Tail(sessions.records, position)
        feed.subscribe(tail.observe)
        expiry = Expiry(sessions, clock)
        expiry.restore(await surface.log.live_deadlines(SESSION_MACHINE.kind))
        feed.subscribe(expiry.observe, SESSION_MACHINE.kind)
        # All listeners have subscribed.
        await feed.start(position)
        orphans = await disconnect_orphans(surface.log, sessions, settings.node, at_once=settings.write_queue)
        stack.push_async_callback(remote.close)
        stack.push_async_callback(runner.close)
        interrupted = await runner.recover(surface.log)
        storage.trace.recovered()
        account_sessions = AccountSessions(sessions, surface.directory, clock)
        superseded = await end_left_over(sessions, accounts, surface.accounts, at_once=settings.write_queue)
        await patiently(secrets.records.compare)
        host = await _begin_host(settings, clock, surface, keeper)
        core = _Core(
            clock,
            host,
            secrets,
            sessions,
            accounts,
            account_sessions,
            devices,
            connections,
            tail,
            remote,
            executions,
            runner,
            streams,
            flow,
        )
        services = _assemble(settings, storage, core, stack)
        works: dict[str, Work] = {
            "expiry": expiry.run,
            "keys": partial(secrets.ring.watch, partial(_use_keys, services, keeper)),
            "secrets": secrets.records.run,
            "host": host.run,
            "executions": runner.run,
            "webhooks": services.webhooks.run,
            "devices": devices.run,
        }
        for name, work in works.items():
            await stack.enter_async_context(supervisor.running(name, work))
        runner.take_work()
        if settings.cheap_passwords_for_tests:
            _log.warning("passwords.unprotected", because="INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS is set")
        _log.info(
            "server.ready",
            orphans_disconnected=orphans,
            superseded_ended=superseded,
            executions_interrupted=interrupted,
        )
        yield services


async def _begin_host(settings: Settings, clock: SystemClock, surface: Surface, keeper: HeadKeeper) -> HostMonitor:
    reserve = settings.disk_reserve_mib << 20
    host = HostMonitor(clock, Path(settings.data), reserve, surface.refuse_growth, lambda: keeper.failing)
    await host.begin()
    return host


def _use_keys(services: Services, keeper: HeadKeeper, keys: Keys | None, retired_early: bool) -> None:  # noqa: FBT001  # KeyRing.watch says what it means
    services.tokens.use(keys)
    if retired_early:
        # The key may have been stolen, and its thief may hold sockets opened with forged tokens.
        services.connections.close_all(Close("token_expired"))
    if keys is not None:
        services.keys = keys
        keeper.renew()
        # Includes keys that had not signed yet or no longer signed: only a thief has tokens of those.
        services.connections.look_at_keys()


def _follow(feed: Feed, connections: Connections, streams: Streams, runner: Runner) -> None:
    """Subscribe what reacts first to the end of a session or the loss of an account.

    Sockets close before any other listener learns of the end. Sessions come first: the sockets of the session that changes a
    password are told to refresh.
    """
    feed.subscribe(connections.observe, SESSION_MACHINE.kind)
    feed.subscribe(connections.observe_account, ACCOUNT_MACHINE.kind)
    feed.subscribe(streams.observe, EXECUTION_MACHINE.kind)
    feed.subscribe(streams.observe_session, SESSION_MACHINE.kind)
    feed.subscribe(runner.observe, EXECUTION_MACHINE.kind)
    feed.subscribe(runner.observe_session, SESSION_MACHINE.kind)
    feed.subscribe(runner.observe_account, ACCOUNT_MACHINE.kind)
    runner.subscribe_progress(streams.progress)


def _executions(
    settings: Settings, storage: Storage, over: tuple[Feed, Clock, Sessions, Accounts], realms: Realms
) -> tuple[Executions, Runner]:
    _, clock, *_ = over
    executions = Executions(
        *over,
        realms=realms,
        store=storage.surface.executions,
        directory=storage.surface.directory,
        limits=ExecutionLimits(
            settings.executions_per_session,
            settings.executions_per_account,
            settings.executions_per_realm,
            settings.executions_depth,
        ),
        cache_limit=settings.session_cache_size,
        trace=storage.trace,
    )
    submissions = RateLimit("submit", "account", settings.limit_submit, clock, token_bytes(_SALT_BYTES))
    runner = Runner(
        executions,
        realms,
        clock,
        node=settings.node,
        count_submission=submissions.take,
        on_late=storage.watchers.late_outcome,
        on_held=storage.watchers.blocked,
    )
    return executions, runner


def _assemble(settings: Settings, storage: Storage, core: _Core, stack: AsyncExitStack) -> Services:
    """Return the services over what is open. ``stack`` closes what they opened."""
    surface, metrics = storage.surface, storage.watchers.metrics
    clock, ring, sessions, connections = core.clock, core.secrets.ring, core.sessions, core.connections
    pseudonyms = Pseudonyms(lambda: ring.keys.refresh_mac)
    id_tokens = IdTokens(settings, clock)
    stack.push_async_callback(id_tokens.close)
    stack.push_async_callback(core.account_sessions.close)
    passwords = _passwords(settings)
    stack.callback(passwords.close)
    # It determines a key's cells in the tables of the rate limits, which are new at each start.
    salt = token_bytes(_SALT_BYTES)
    tokens = Tokens(
        ring.keys, clock, issuer=settings.issuer, audience=settings.audience, lifetime_s=settings.access_token_s
    )
    tickets = Tickets(surface.tickets, clock, lifetime_ms=round(settings.ticket_s * 1000))
    limits = RateLimits(settings, clock, salt)
    authenticator = Authenticator(sessions, core.accounts, tokens, tickets, limits, clock)
    events = EventLog(
        surface.log,
        core.tail,
        {SESSION_MACHINE.kind: sessions.cached, EXECUTION_MACHINE.kind: core.executions.cached},
    )
    webhooks = Webhooks(
        core.secrets.webhooks, surface.webhooks, events, clock, Destinations(settings.outgoing_networks)
    )
    metrics.watch(
        {
            "interlock_connections": lambda: len(connections),
            "interlock_write_queue_depth": surface.waiting,
            "interlock_read_queue_depth": surface.reading,
            "interlock_disk_low": lambda: core.host.disk_low,
            "interlock_head_failing": core.host.head_failing,
            "interlock_clock_ahead_seconds": lambda: clock.ahead_ms() / 1000,
            "interlock_log_failed": lambda: sessions.failure is not None,
            "interlock_background_failing": lambda: len(storage.supervisor.failing),
            "interlock_executions_running": lambda: core.runner.running,
            "interlock_streams": lambda: len(core.streams),
            "interlock_stream_bytes": lambda: core.streams.size,
            "interlock_keys_unusable": lambda: not tokens.usable,
            "interlock_webhooks_disabled": lambda: webhooks.disabled,
            "interlock_webhook_dead_letters": lambda: webhooks.dead,
            "interlock_webhook_behind_records": lambda: webhooks.behind,
            "interlock_password_queue_depth": lambda: passwords.waiting,
        }
    )
    return Services(
        settings=settings,
        clock=clock,
        sessions=sessions,
        account_sessions=core.account_sessions,
        session_devices=core.devices,
        connections=connections,
        connection_limits=ConnectionLimits(sessions, authenticator, connections, clock, settings),
        authenticator=authenticator,
        browser_sessions=BrowserSessions(sessions, authenticator, tokens, limits, clock),
        accounts=core.accounts,
        logins=Logins(
            accounts=core.accounts,
            sessions=sessions,
            account_sessions=core.account_sessions,
            passwords=passwords,
            exchanged_tokens=surface.exchanged_tokens,
            clock=clock,
            register=settings.oidc_accounts == "any",
        ),
        tickets=tickets,
        tokens=tokens,
        id_tokens=id_tokens,
        keys=ring.keys,
        clients=core.secrets.clients,
        secret_records=core.secrets.records,
        addresses=Addresses(settings.trusted_proxies, settings.forwarded_header, settings.rate_limit_exempt),
        limits=limits,
        login_limits=LoginLimits(settings, clock, salt, pseudonyms),
        devices=Devices(core.accounts, clock, lambda: ring.keys),
        realms=core.executions.realms,
        remote_realms=core.remote_realms,
        executions=core.executions,
        runner=core.runner,
        streams=core.streams,
        trace=storage.trace,
        admins=Admins(core.secrets.admins),
        administration=Administration(
            sessions,
            core.account_sessions,
            core.accounts,
            log=surface.log,
            store=surface.accounts,
            directory=surface.directory,
            clock=clock,
        ),
        tail=core.tail,
        subscribers=Subscribers(core.secrets.subscribers),
        events=events,
        webhooks=webhooks,
        supervisor=storage.supervisor,
        metrics=metrics,
        host=core.host,
        console=open_console(
            settings, core.flow, (sessions, core.accounts), tokens, clock, surface.log, surface.head_lag
        ),
        spans=storage.spans,
    )


def _passwords(settings: Settings) -> Passwords:
    blocklist = Blocklist(
        settings.audience,
        [settings.issuer, *settings.password_context_words],
        Path(settings.password_blocklist) if settings.password_blocklist else None,
    )
    return Passwords(
        memory_kib=8 if settings.cheap_passwords_for_tests else settings.argon2_memory_kib,
        iterations=1 if settings.cheap_passwords_for_tests else settings.argon2_iterations,
        workers=settings.argon2_workers,
        max_waiting=settings.argon2_queue,
        blocklist=blocklist,
    )


async def _watch(feed: Feed, doors: Sequence[Door[Any]], settings: Settings, clock: Clock) -> MetricsRecorder:
    """Subscribe the security log and, if they are on, the metrics. Call it before anything happens."""
    metrics = MetricsRecorder()
    if settings.metrics_port is not None:
        from interlock.server.telemetry.metrics import PrometheusMetrics

        metrics = PrometheusMetrics(MACHINES, clock, await feed.log.live_states())
    feed.subscribe(metrics.observe)
    for door in doors:
        door.subscribe_own(security_log.log_transition)
        for refusal_listener in (metrics.refused, security_log.log_refusal):
            door.subscribe_refusals(refusal_listener)
    return metrics
