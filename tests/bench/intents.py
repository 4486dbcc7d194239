"""Intents over WebSockets, each accepted and ended durably, against the log alone; and their latency at half that load."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from interlock.machine.account.commitments import KEY_BYTES
from interlock.machine.execution.commands import Accept, Data, Start, Succeed, execution_id_of
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
from interlock.machine.session.commands import Authenticate
from interlock.machine.session.machine import authority_of
from interlock.machine.session.session import Session
from interlock.server.clock import SystemClock
from interlock.server.runtime.door import commands
from interlock.server.runtime.feed import Feed
from interlock.server.runtime.sessions import Sessions
from interlock.server.surface.executions import ExecutionData
from interlock.server.surface.log import Along, Step
from interlock.server.surface.sqlite.files import Surface, open_surface
from interlock.server.system.supervision import Supervisor
from tests.bench.figure import Bench, BenchError, Figure, cores, in_turns, now_ms, number, percentile
from tests.bench.intents_realm import realm
from tests.bench.population import NODE, POLICY
from tests.bench.processes import Process, cpu_s, interlock, per_cpu_second
from tests.bench.wire import Socket, http_pool, open_as, spread
from tests.support.accounts import AccountStory, personal

_SOCKETS: Final = 100
_INTENT: Final = realm.intents["bench.say"]
_TEXT: Final = 1
_PARAMETERS: Final = '{"text":"half a line of text"}'
_PATIENCE_S: Final = 60.0


async def measure(bench: Bench) -> list[Figure]:
    """Measure. The clients are this process, on another core than the server's and, in its turns, the log's."""
    before = os.sched_getaffinity(0)
    seconds = bench.pick(3, 1)
    try:
        # The log's threads stay where they were started.
        os.sched_setaffinity(0, cores()[0])
        async with _log_alone(bench, intents=bench.pick(60, 10)) as log:
            os.sched_setaffinity(0, cores()[1])
            with interlock(bench, bench.path("intents"), "--realm", "tests.bench.intents_realm:realm") as server:
                clients = await _connected(server)
                load = _Load(server, clients, seconds)
                pairs = await in_turns(bench, "intents", bench.pick(9, 3), load.rate, log.rate)
                half = statistics.median(pairs.ours) / 2
                bench.say(f"half load: {half:,.0f} intents a second")
                paced = await _paced(clients, half, bench.pick(60, 3))
    finally:
        os.sched_setaffinity(0, before)
    title = f"intents, {_SOCKETS} WebSockets, each with 3 durable records, vs. the log alone"
    return [pairs.at_least(title, 0.5, "/s", per_cpu_second(load, log)), _latency(paced, half)]


def _latency(paced: list[_Times], rate: float) -> Figure:
    ended = [(each.ended_at - each.due_at) * 1e3 for each in paced]
    accepted = [(each.accepted_at - each.due_at) * 1e3 for each in paced]
    late = [(each.sent_at - each.due_at) * 1e3 for each in paced]
    note = (
        f"{len(paced):,} intents; p50 {percentile(ended, 0.5):.2f}, p99.9 {percentile(ended, 0.999):.1f},"
        f" max {max(ended):.1f} ms;"
        f" to `accepted`: p50 {percentile(accepted, 0.5):.2f}, p99 {percentile(accepted, 0.99):.1f},"
        f" p99.9 {percentile(accepted, 0.999):.1f} ms; of this the client sent late: p99 {percentile(late, 0.99):.2f} ms"
    )
    title = f"intent to outcome p99, at half load ({rate:,.0f} a second, at fixed times)"
    return Figure(title, f"{number(percentile(ended, 0.99))} ms", note=note)


class _Times(msgspec.Struct):
    """When an intent was due, and when it was sent, accepted and ended (seconds of ``perf_counter``)."""

    due_at: float
    sent_at: float
    accepted_at: float = 0.0
    ended_at: float = 0.0


class _Client(Socket):
    """One WebSocket. From ``begin`` to ``end`` it sends an intent as soon as the last has its outcome."""

    __slots__ = ("_count", "_number", "_talks", "failure", "waiting")

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.waiting: dict[bytes, _Times] = {}
        self.failure: str | None = None
        self._number = 0
        self._count = 0
        self._talks = False

    def begin(self) -> None:
        """Send the first intent."""
        self._talks, self._count = True, 0
        self.submit(time.perf_counter())

    def end(self) -> int:
        """Send no more. Return how many outcomes have arrived."""
        self._talks = False
        return self._count

    def submit(self, due_at: float) -> _Times:
        """Send an intent, which was due at ``due_at``."""
        self._number += 1
        name = f"{self._number:012d}"
        times = self.waiting[name.encode()] = _Times(due_at, time.perf_counter())
        text = f'{{"type":"intent","id":"{name}","name":"bench.say","parameters":{_PARAMETERS}}}'
        self._send(_TEXT, text.encode())
        return times

    def _frame(self, kind: int, payload: bytes, now: float) -> None:
        if kind != _TEXT or not self.greeted.done():
            super()._frame(kind, payload, now)
        elif payload.startswith(b'{"type":"outcome"') and b'"state":"succeeded"' in payload:
            self.waiting.pop(_intent_id(payload)).ended_at = now
            self._count += 1
            if self._talks:
                self.submit(now)
        elif payload.startswith(b'{"type":"accepted"'):
            self.waiting[_intent_id(payload)].accepted_at = now
        elif not payload.startswith(b'{"type":"transition"'):
            self.failure = payload.decode()


def _intent_id(payload: bytes) -> bytes:
    return payload.partition(b'"intent_id":"')[2].partition(b'"')[0]


async def _connected(server: Process) -> list[_Client]:
    """Log as many users in as there are sockets, and open a socket for each."""
    async with http_pool(server.url, 8) as pool:
        await spread(pool, _SOCKETS, lambda http, n: http.register(f"user{n}@example.org"))
        users = await spread(pool, _SOCKETS, lambda http, n: http.log_in(f"user{n}@example.org"))
    return [await open_as(_Client, server.url, user.access_token) for user in users]


async def _all_ended(clients: Sequence[_Client]) -> None:
    """Wait until no intent is without an outcome.

    Raises:
        BenchError: an intent was refused or failed, or a socket closed.
    """
    until = time.perf_counter() + _PATIENCE_S
    while any(client.waiting for client in clients):
        failures = [client.failure for client in clients if client.failure is not None]
        if failures or time.perf_counter() > until or any(client.closed.done() for client in clients):
            raise BenchError(f"an intent has no outcome: {failures[:1]}")
        await asyncio.sleep(0.01)


class _Load:
    """The server's side: each socket has one intent in flight."""

    def __init__(self, server: Process, clients: list[_Client], seconds: int) -> None:
        self.per_cpu_s: list[float] = []
        self._server = server
        self._clients = clients
        self._seconds = seconds

    async def rate(self) -> float:
        """Measure one turn: outcomes per second."""
        before = cpu_s(self._server.pid)
        for client in self._clients:
            client.begin()
        await asyncio.sleep(self._seconds)
        count = sum(client.end() for client in self._clients)
        self.per_cpu_s.append(count / (cpu_s(self._server.pid) - before))
        # Intents still in flight belong to no turn.
        await _all_ended(self._clients)
        return count / self._seconds


async def _paced(clients: list[_Client], rate: float, seconds: int) -> list[_Times]:
    """Send ``rate`` intents a second, each at its time, whether or not those before it have ended."""
    sent: list[_Times] = []
    began = time.perf_counter()
    for number_ in range(int(rate * seconds)):
        due_at = began + number_ / rate
        if (wait_s := due_at - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        sent.append(clients[number_ % len(clients)].submit(due_at))
    await _all_ended(clients)
    return sent


@asynccontextmanager
async def _log_alone(bench: Bench, *, intents: int) -> AsyncIterator[_LogAlone]:
    async with open_surface(
        bench.path("log-alone"), max_waiting=20_000, on_failure=bench.say, supervisor=Supervisor()
    ) as surface:
        feed = Feed(surface.log)
        sessions = Sessions(feed, SystemClock(), policy=POLICY, cache_limit=_SOCKETS)
        await feed.start(0)
        held = [await _logged_in(surface, sessions, f"acc_{n}") for n in range(_SOCKETS)]
        yield _LogAlone(surface, held, intents)


async def _logged_in(surface: Surface, sessions: Sessions, account_id: str) -> Session:
    """Return a session of a new account."""
    story = AccountStory(personal(account_id, None), at_ms=now_ms())
    await surface.log.append(story.register(surface.accounts.add(story.data)))
    login = Authenticate(account_id, "exchange", account_epoch=story.account.epoch)
    return (await sessions.begin(account_id, login)).instance


class _LogAlone:
    """The ceiling: the same records and data under the same authorities, decided in advance, by as many callers at once."""

    def __init__(self, surface: Surface, sessions: list[Session], intents: int) -> None:
        self.per_cpu_s: list[float] = []
        self._surface = surface
        self._sessions = sessions
        self._intents = intents

    async def rate(self) -> float:
        """Return executions per second."""
        lives = [[self._life(session) for _ in range(self._intents)] for session in self._sessions]
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores()[0])
        try:
            began, cpu_before = time.perf_counter(), time.process_time()
            await asyncio.gather(*map(self._append, self._sessions, lives))
            elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu_before
        finally:
            os.sched_setaffinity(0, here)
        count = self._intents * len(self._sessions)
        self.per_cpu_s.append(count / cpu)
        return count / elapsed

    async def _append(self, session: Session, lives: list[list[Step]]) -> None:
        under = authority_of(session)
        for step in (step for life in lives for step in life):
            await self._surface.log.append([step], under)

    def _life(self, session: Session) -> list[Step]:
        """Return the three steps of an execution."""
        subject, intent_id = session.subject or "", secrets.token_hex(6)
        execution_id = execution_id_of(subject, intent_id)
        store = self._surface.executions
        data = ExecutionData(execution_id, secrets.token_bytes(KEY_BYTES), _PARAMETERS, result=_PARAMETERS)
        accept = Accept(
            session.session_id,
            subject,
            _INTENT.realm,
            _INTENT.name,
            intent_id,
            data.fingerprint,
            _INTENT.effects,
            _INTENT.on_session_end,
            _INTENT.timeout_ms,
        )
        moves: list[tuple[Data, Along | None]] = [
            (accept, store.add(msgspec.structs.replace(data, result=None))),
            (Start(NODE), None),
            (Succeed(NODE, 1, data.committed_result or ""), store.finish(execution_id, result=_PARAMETERS)),
        ]
        steps = []
        execution: Execution = EXECUTION_MACHINE.absent(execution_id)
        for move, along in moves:
            (command,) = commands(subject, move)
            transition = EXECUTION_MACHINE.decide(execution, command, now_ms())
            execution = EXECUTION_MACHINE.evolve(execution, transition)
            steps.append(Step(transition, execution, along))
        return steps
