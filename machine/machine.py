"""A declared lifecycle that runs. What takes a :class:`Machine` knows no lifecycle by name: log, database, verifier, door.

A lifecycle is added by its declaration, the structures of its commands' data, the structure of its instances, its guards,
and ``evolve``. Everything else follows from these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import msgspec

from interlock.machine.errors import InstanceNotFound, LedgerFault
from interlock.machine.table import Guard, Table
from interlock.spec.transitions import Lifecycle


class Data(Protocol):
    """What a command carries, and its record as it stands: all that a guard or the fold will ever need, nothing secret."""

    event: ClassVar[str]


class Instance(Protocol):
    """What every instance has. The first field of its structure is its id."""

    @property
    def state(self) -> str | None:
        """The state that its last transition led to; None before its creation."""

    @property
    def version(self) -> int:
        """How many transitions it took."""

    @property
    def created_at_ms(self) -> int:
        """When the first was, in ms since the Unix epoch; 0 before its creation."""

    @property
    def updated_at_ms(self) -> int:
        """When the last was, in ms since the Unix epoch; 0 before its creation."""


InstanceT = TypeVar("InstanceT", bound=Instance)


def id_of(instance: Any) -> str:
    """The id of ``instance``."""
    return getattr(instance, instance.__struct_fields__[0])  # type: ignore[no-any-return]  # the first field is the id


class Command(msgspec.Struct, frozen=True):
    """One thing asked of one instance.

    ``command_id`` names this asking: submitting the same id for the same instance again returns the recorded outcome and
    changes nothing. ``actor`` says who asked, for the log: ``anonymous``, an account id, ``server``, or, with a
    name, ``admin:``, ``client:`` or ``provider:``.
    """

    command_id: str
    actor: str
    data: Any


class Transition(msgspec.Struct, frozen=True):
    """One step of one instance of ``kind``, decided and ready to be recorded; ``version`` counts from 1 without gaps."""

    kind: str
    instance_id: str
    version: int
    event: str
    source: str | None
    target: str
    at_ms: int
    actor: str
    command_id: str
    data: Any


class Authority(msgspec.Struct, frozen=True):
    """The instance under whose authority something is recorded.

    At the place in the log where it is recorded, the instance must not have ended or be overdue, and be at ``epoch`` (None: at
    any).
    """

    kind: str
    instance_id: str
    epoch: int | None = None


class Keys(msgspec.Struct, frozen=True):
    """What lists, timers and conditions ask of an instance, beside its state. Each is a column of its projection.

    ``owner``: the account that it belongs to. ``epoch``: what was granted under an older one is void. ``deadline_ms``: it is
    good until then. ``reason``: why it ended. ``busy``: a server process holds something for it, an open connection say.
    """

    owner: str | None = None
    epoch: int = 0
    deadline_ms: int | None = None
    reason: str | None = None
    busy: bool = False


class Words(msgspec.Struct, frozen=True):
    """What people are told of a lifecycle's instances, beyond its declaration's own sentences. Each part may be left out.

    ``facts``: guard, or ``not guard`` → how things stood with an instance and a command's data when it failed.
    ``particulars``: event → what a record's data adds, given the instance before it. ``likely``: event → the data that
    whoever is likely to ask would ask with. ``stands``: how an instance stands at a time in ms, by name.
    """

    facts: Mapping[str, Callable[[Any, Any], str]] = {}
    particulars: Mapping[str, Callable[[Any, Any], str]] = {}
    likely: Mapping[str, Callable[[Any, int], Any]] = {}
    stands: Callable[[Any, int], dict[str, Any]] = lambda instance, _now_ms: msgspec.structs.asdict(instance)


class Machine(Generic[InstanceT]):
    """One declared lifecycle, ready to run.

    ``instance``: the structure of an instance; called with an id it gives the one before its creation. ``data``: one
    structure an event. ``evolve``: the instance after a transition. ``guards``: those that the declaration names.

    ``keys``: see :class:`Keys`. ``copied``: ``owner`` and ``reason`` → the events that set them → the field of their data that
    is taken. ``counts``: fields of an instance that count events → those events; ``epoch`` may be one. The database holds
    every projection to these two. ``essential``: events that are recorded while the disk is nearly full, as ends are.
    ``lasting``: its instances have no deadline, so there are ever more that have not ended. Each is compared with its records
    whenever it is read, all others once at the start. ``not_found``: the error for an id that nothing has. ``authorise``:
    raises what a caller is told under whose authority, an instance at an epoch (None: at any), nothing can be recorded at a
    time in ms.

    Raises:
        ValueError: guards or data are not exactly those that the declaration has.
    """

    def __init__(  # noqa: PLR0913  # each part of a lifecycle once, most of them by name
        self,
        lifecycle: Lifecycle,
        instance: type[InstanceT],
        data: Iterable[type[Any]],
        evolve: Callable[[InstanceT, Transition], InstanceT],
        guards: Mapping[str, Guard[InstanceT, Any]] | None = None,
        *,
        keys: Callable[[InstanceT], Keys] = lambda _: Keys(),
        copied: Mapping[str, Mapping[str, str]] | None = None,
        counts: Mapping[str, Collection[str]] | None = None,
        essential: Collection[str] = (),
        lasting: bool = False,
        words: Words | None = None,
        not_found: Callable[[str], InstanceNotFound] | None = None,
        authorise: Callable[[InstanceT, int | None, int], None] = lambda *_: None,
    ) -> None:
        self.lifecycle: Final = lifecycle
        self.kind: Final = lifecycle.name
        self.instance: Final = instance
        self.absent: Final[Callable[[str], InstanceT]] = instance
        """The instance with an id before its creation."""
        self.decode: Final[Callable[[str], InstanceT]] = msgspec.json.Decoder(instance).decode
        """An instance out of its JSON."""
        self.evolve: Final = evolve
        self.keys: Final = keys
        self.copied: Final = dict(copied or {})
        self.counts: Final = dict(counts or {})
        self.words: Final = words or Words()
        self.table: Final[Table[InstanceT, Any]] = Table(lifecycle, guards or {})
        self.final: Final = frozenset(state.name for state in lifecycle.states if state.final)
        self._essential: Final = frozenset(essential)
        self.lasting: Final = lasting
        self.authorise: Final = authorise
        self.not_found: Final = not_found or partial(InstanceNotFound, lifecycle.name)
        self.data: Final[dict[str, type[Any]]] = {each.event: each for each in data}
        self._decoders: Final = {event: msgspec.json.Decoder(each) for event, each in self.data.items()}
        declared = {event.name for event in lifecycle.events}
        if declared != self.data.keys():
            raise ValueError(f"events declared {sorted(declared)}, data given for {sorted(self.data)}")
        self.creation: Final = lifecycle.transitions[0].event

    def decide(self, instance: InstanceT, command: Command, now_ms: int) -> Transition:
        """The transition that ``command`` causes at ``now_ms``. Nothing changes until it is recorded.

        Should the caller's clock have been set back, the instance's own last step counts as now: time never runs backwards
        within an instance.

        Raises:
            TransitionRefused: the declaration does not allow it.
        """
        data = command.data
        now_ms = max(now_ms, instance.updated_at_ms)
        target = self.table.step(instance.state, data.event, instance, data, now_ms)
        return Transition(
            self.kind,
            id_of(instance),
            instance.version + 1,
            data.event,
            instance.state,
            target,
            now_ms,
            command.actor,
            command.command_id,
            data,
        )

    def replay(self, instance_id: str, transitions: Iterable[Transition]) -> InstanceT:
        """The instance that the whole of its history, in version order, amounts to."""
        instance = self.absent(instance_id)
        for transition in transitions:
            instance = self.evolve(instance, transition)
        return instance

    def is_essential(self, transition: Transition) -> bool:
        """Whether it is recorded also while the disk is nearly full."""
        return transition.target in self.final or transition.event in self._essential

    def data_of(self, position: int, event: str, text: str) -> Any:
        """What the ``event`` at ``position`` carries, from its JSON ``text``.

        Raises:
            LedgerFault: the event is unknown or its data does not have the event's shape.
        """
        decoder = self._decoders.get(event)
        if decoder is None:
            raise LedgerFault(position, f"unknown event {event!r} of kind {self.kind}")
        try:
            return decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise LedgerFault(position, f"data of {event} is malformed: {error}") from None


class Machines:
    """The lifecycles that one log holds, by kind."""

    def __init__(self, *machines: Machine[Any]) -> None:
        self._by_kind: Final = {machine.kind: machine for machine in machines}

    def __iter__(self) -> Iterator[Machine[Any]]:
        """Each of them."""
        return iter(self._by_kind.values())

    def get(self, kind: str) -> Machine[Any] | None:
        """The one of ``kind``, or None."""
        return self._by_kind.get(kind)

    def is_essential(self, transition: Transition) -> bool:
        """Whether it is recorded also while the disk is nearly full."""
        return self._by_kind[transition.kind].is_essential(transition)

    def of(self, position: int, kind: str) -> Machine[Any]:
        """The one of ``kind``, which the record at ``position`` names.

        Raises:
            LedgerFault: there is none.
        """
        machine = self._by_kind.get(kind)
        if machine is None:
            raise LedgerFault(position, f"unknown kind {kind!r}")
        return machine
