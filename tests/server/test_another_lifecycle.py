"""A new lifecycle needs only a declaration, data types and ``evolve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec
import pysqlite3
import pytest
from prometheus_client import generate_latest
from statemachine import Event, State, StateMachine

from interlock.machine.errors import InstanceNotFound, LedgerFault, TransitionRefused
from interlock.machine.machine import Command, Machine, Machines, Transition
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.story import describe, snapshot
from interlock.server.runtime.door import Door, commands
from interlock.server.runtime.feed import Feed
from interlock.server.surface.memory import MemoryLog, MemoryStore
from interlock.server.surface.sqlite.archive import open_archive
from interlock.server.surface.sqlite.files import open_surface
from interlock.server.system.supervision import Supervisor
from interlock.server.telemetry.metrics import PrometheusMetrics
from interlock.spec.diagrams import mermaid, svg
from interlock.spec.promela import promela
from interlock.spec.transitions import read
from tests.support.asynchronous import asynchronous
from tests.support.clock import HandClock
from tests.support.door import start
from tests.support.steps import Story


class ParcelGuards(Protocol):
    def by_the_sender(self) -> bool:
        """Guard: the command names the parcel's sender."""
        ...


class ParcelLifecycle(StateMachine):
    """A parcel on its way."""

    creation: ClassVar[tuple[str, str]] = ("hand_in", "Somebody hands a parcel in.")

    waiting = State("The parcel lies at the counter.", initial=True)
    travelling = State("The parcel is on its way.")
    delivered = State("The parcel is where it should be.", final=True)

    collect = Event(waiting.to(travelling), name="The van takes it along.")
    call_back = Event(travelling.to(waiting, cond="by_the_sender"), name="The sender wants it back.")
    deliver = Event(travelling.to(delivered), name="It is handed over.")


class HandIn(msgspec.Struct, frozen=True):
    event: ClassVar[str] = "hand_in"
    sender: str


class Collect(msgspec.Struct, frozen=True):
    event: ClassVar[str] = "collect"


class CallBack(msgspec.Struct, frozen=True):
    event: ClassVar[str] = "call_back"
    sender: str


class Deliver(msgspec.Struct, frozen=True):
    event: ClassVar[str] = "deliver"


class Parcel(msgspec.Struct, frozen=True):
    parcel_id: str
    state: str | None = None
    version: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0
    sender: str = ""


def evolve(parcel: Parcel, step: Transition) -> Parcel:
    return Parcel(
        parcel.parcel_id,
        step.target,
        step.version,
        parcel.created_at_ms or step.at_ms,
        step.at_ms,
        step.data.sender if step.event == "hand_in" else parcel.sender,
    )


PARCELS = Machine(
    read(ParcelLifecycle, ParcelGuards),
    Parcel,
    (HandIn, Collect, CallBack, Deliver),
    evolve,
    {"by_the_sender": lambda parcel, data, _now_ms: parcel.sender == data.sender},
)
BOTH = Machines(SESSION_MACHINE, PARCELS)


async def live_through(folder: Path) -> list[Any]:
    """Run one parcel, and a session beside it, through the door onto the disk. Return what the door published."""
    told: list[Any] = []
    async with open_surface(
        folder, machines=BOTH, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()
    ) as surface:
        metrics = PrometheusMetrics(BOTH, HandClock(), {})
        feed = Feed(surface.log)
        door = Door(PARCELS, feed, HandClock(), cache_limit=1)
        feed.subscribe(
            lambda record, parcel: told.append((record.position, record.transition.event, parcel and parcel.state)),
            "parcel",
        )
        feed.subscribe(metrics.observe, "parcel")
        door.subscribe_refusals(metrics.refused)
        await start(feed)
        await door.submit("p1", *commands("ada", HandIn("ada")))
        # Ids of different kinds may be equal.
        await surface.log.append(Story("p1").begin("ada"))
        await door.submit("p1", *commands("van", Collect()))
        with pytest.raises(TransitionRefused, match="by_the_sender"):
            await door.submit("p1", *commands("bob", CallBack("bob")))
        await door.submit("p2", *commands("bob", HandIn("bob"), Collect()))
        await door.submit("p1", *commands("van", Deliver()))
        with pytest.raises(InstanceNotFound, match="Parcel not found"):
            await door.load("nowhere")
        told.append(generate_latest(metrics.registry).decode())
        told.append(await surface.log.live_states())
    return told


@asynchronous
async def test_a_new_lifecycle_is_decided_recorded_counted_and_loaded(tmp_path: Path) -> None:
    *heard, metrics, live = await live_through(tmp_path)
    assert heard == [
        (1, "hand_in", "waiting"),
        (4, "collect", "travelling"),
        (5, "hand_in", "waiting"),
        (6, "collect", "travelling"),
        (7, "deliver", "delivered"),
    ]
    assert 'interlock_transitions_total{event="collect",kind="parcel"} 2.0' in metrics
    assert 'interlock_instances{kind="parcel",state="travelling"} 1.0' in metrics
    assert 'interlock_refusals_total{event="call_back",guard="by_the_sender",kind="parcel"} 1.0' in metrics
    assert live == {("parcel", "travelling"): 1, ("session", "authenticated"): 1}
    async with open_surface(
        tmp_path, machines=BOTH, max_waiting=10, on_failure=pytest.fail, supervisor=Supervisor()
    ) as surface:
        loaded = await surface.log.load(PARCELS, "p1")
        assert loaded is not None
        assert (loaded.state, loaded.version, loaded.sender) == ("delivered", 3, "ada")


@asynchronous
async def test_a_new_lifecycles_records_verify_and_forgeries_are_found(tmp_path: Path) -> None:
    await live_through(tmp_path)
    with open_archive(tmp_path, BOTH) as archive:
        assert list(archive.verify())[-1] == 7
        steps, parcel = describe(PARCELS, "p2", archive.history("parcel", "p2"))
        assert [step.sentence for step in steps] == ["Somebody hands a parcel in.", "The van takes it along."]
        assert snapshot(PARCELS, parcel, 0).stands["sender"] == "bob"
    with open_archive(tmp_path) as without_it, pytest.raises(LedgerFault, match="record 1: unknown kind 'parcel'"):
        list(without_it.verify())
    shell = pysqlite3.connect(str(tmp_path / "interlock.db"), isolation_level=None)
    legal = "INSERT INTO transitions VALUES (8, 'parcel', 'p2', 3, 'call_back', 'travelling', 'waiting', 9, 'x', 'c', '{}', ?)"
    with pytest.raises(pysqlite3.IntegrityError, match="not a declared transition"):
        shell.execute(legal.replace("'waiting'", "'delivered'"), (bytes(32),))
    with pytest.raises(pysqlite3.IntegrityError, match="not a declared transition"):
        shell.execute(legal.replace("'parcel'", "'session'"), (bytes(32),))
    shell.execute(legal, (bytes(32),))
    shell.close()
    with open_archive(tmp_path, BOTH) as archive, pytest.raises(LedgerFault, match="record 8: digest"):
        list(archive.verify())


@asynchronous
async def test_a_new_lifecycle_needs_no_disk(tmp_path: Path) -> None:  # noqa: ARG001  # like the others
    feed = Feed(MemoryLog(MemoryStore(BOTH)))
    door = Door(PARCELS, feed, HandClock(), cache_limit=1)
    await start(feed)
    outcome = await door.submit("p1", *commands("ada", HandIn("ada"), Collect()))
    assert (outcome.instance.state, outcome.instance.version) == ("travelling", 2)


def test_a_new_lifecycle_is_drawn_and_modelled() -> None:
    assert "waiting --> travelling : collect" in mermaid(PARCELS.lifecycle)
    assert "travelling" in svg(PARCELS.lifecycle)
    assert "EVENT_call_back" in promela(PARCELS.lifecycle)


def test_a_lifecycle_whose_code_differs_from_its_declaration_is_refused() -> None:
    with pytest.raises(ValueError, match="events declared"):
        Machine(PARCELS.lifecycle, Parcel, (HandIn, Collect, CallBack), evolve, {"by_the_sender": lambda *_: True})
    with pytest.raises(ValueError, match="guards declared"):
        Machine(PARCELS.lifecycle, Parcel, (HandIn, Collect, CallBack, Deliver), evolve)
    parcel = PARCELS.absent("p1")
    with pytest.raises(TransitionRefused, match="no such transition"):
        PARCELS.decide(parcel, Command("c", "van", Deliver()), 1)
