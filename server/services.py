"""The services that endpoints use. Only :mod:`interlock.server.wiring` creates them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from interlock.realm import Realms
from interlock.server.clock import Clock
from interlock.server.guard.admins import Admins
from interlock.server.guard.keys.keyset import Keys
from interlock.server.guard.oidc.id_tokens import IdTokens
from interlock.server.guard.secrets import Secrets
from interlock.server.guard.session_devices.kept import SessionDevices
from interlock.server.guard.subscribers import Subscribers
from interlock.server.guard.throttling.addresses import Addresses
from interlock.server.guard.throttling.devices import Devices
from interlock.server.guard.throttling.limits import RateLimits
from interlock.server.guard.throttling.logins import LoginLimits
from interlock.server.guard.tickets import Tickets
from interlock.server.guard.tokens import Tokens
from interlock.server.runtime.accounts.account_sessions import AccountSessions
from interlock.server.runtime.accounts.accounts import Accounts
from interlock.server.runtime.accounts.administration import Administration
from interlock.server.runtime.accounts.logins import Logins
from interlock.server.runtime.authenticator import Authenticator
from interlock.server.runtime.browser_sessions import BrowserSessions
from interlock.server.runtime.connection_limits import ConnectionLimits
from interlock.server.runtime.connections import Connections
from interlock.server.runtime.console.console import Console
from interlock.server.runtime.events.event_log import EventLog
from interlock.server.runtime.events.webhooks import Webhooks
from interlock.server.runtime.executions.executions import Executions
from interlock.server.runtime.executions.remote_realms import RemoteRealms
from interlock.server.runtime.executions.runner import Runner
from interlock.server.runtime.executions.streams import Streams
from interlock.server.runtime.secret_records import SecretRecords
from interlock.server.runtime.sessions import Sessions
from interlock.server.runtime.tail import Tail
from interlock.server.settings import Settings
from interlock.server.system.host import HostMonitor
from interlock.server.system.supervision import Supervisor
from interlock.server.telemetry.metrics_recorder import MetricsRecorder
from interlock.server.telemetry.model_trace import TraceWriter

if TYPE_CHECKING:
    from interlock.server.telemetry.spans import Spans


class Services(msgspec.Struct):
    """Everything that an endpoint may call. ``draining``: the server is stopping and takes no new work.

    ``keys`` is replaced when keys are rotated. ``clients`` are the programs that may use introspection and revocation.
    ``console`` is set only if a group of operators is named. ``spans`` is set only if OpenTelemetry is configured; otherwise
    its library is not imported. ``followers`` counts the open streams that follow the log, by what they show and by the actor
    that opened them. ``tasks`` continue after the request that started them.
    """

    settings: Settings
    clock: Clock
    sessions: Sessions
    account_sessions: AccountSessions
    session_devices: SessionDevices
    connections: Connections
    connection_limits: ConnectionLimits
    authenticator: Authenticator
    browser_sessions: BrowserSessions
    accounts: Accounts
    tickets: Tickets
    tokens: Tokens
    id_tokens: IdTokens
    keys: Keys
    clients: Secrets
    secret_records: SecretRecords
    addresses: Addresses
    limits: RateLimits
    login_limits: LoginLimits
    logins: Logins
    devices: Devices
    realms: Realms
    remote_realms: RemoteRealms
    executions: Executions
    runner: Runner
    streams: Streams
    trace: TraceWriter
    admins: Admins
    administration: Administration
    tail: Tail
    subscribers: Subscribers
    events: EventLog
    webhooks: Webhooks
    supervisor: Supervisor
    metrics: MetricsRecorder
    host: HostMonitor
    console: Console | None = None
    spans: Spans | None = None
    draining: bool = False
    followers: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    tasks: set[asyncio.Task[None]] = msgspec.field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in its own task. A stopping server waits for it."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
