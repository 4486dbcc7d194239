"""A declared lifecycle, ready to run. Log, database, door and verifier take a :class:`Machine` and know no lifecycle by name.

To add a lifecycle, supply its declaration, the data structures of its commands, the structure of its instances, its guards and
``evolve``. Everything else is derived from these.
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
    """The data of a command. It is recorded unchanged, so it holds all that guards and the fold need, and nothing secret."""

    event: ClassVar[str]


class Instance(Protocol):
    """The fields that every instance has. The first field of its structure is its id."""

    @property
    def state(self) -> str | None:
        """The state after the last transition; None before the creation."""

    @property
    def version(self) -> int:
        """The number of transitions so far."""

    @property
    def created_at_ms(self) -> int:
        """The time of the first transition, in ms since the Unix epoch; 0 before the creation."""

    @property
    def updated_at_ms(self) -> int:
        """The time of the last transition, in ms since the Unix epoch; 0 before the creation."""


InstanceT = TypeVar("InstanceT", bound=Instance)


def id_of(instance: Any) -> str:
    """Return the id of ``instance``."""
    return getattr(instance, instance.__struct_fields__[0])  # type: ignore[no-any-return]  # the first field is the id


def after(instance: InstanceT, transition: Transition, changed: dict[str, Any]) -> InstanceT:
    """Return ``instance`` after ``transition``: state, version and time as of any transition, and the fields ``changed``."""
    return msgspec.structs.replace(  # type: ignore[type-var]  # every instance is a Struct
        instance, state=transition.target, version=transition.version, updated_at_ms=transition.at_ms, **changed
    )


class Command(msgspec.Struct, frozen=True):
    """A request to change one instance.

    ``command_id`` makes it idempotent: submitting the same id for the same instance again returns the recorded outcome and
    changes nothing. ``actor`` is the requester as named in the log: ``anonymous``, an account id, ``server``, or ``admin:``,
    ``client:`` or ``provider:`` followed by a name.
    """

    command_id: str
    actor: str
    data: Any


class Transition(msgspec.Struct, frozen=True):
    """One decided step of an instance of ``kind``, ready to be recorded. ``version`` counts from 1 without gaps."""

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

    At that position in the log, the instance must not have ended or be overdue, and must be at ``epoch`` (None: any epoch). The
    same is true of the authority that it ``rests_on``, if any: a session's rests on that of its account.
    """

    kind: str
    instance_id: str
    epoch: int | None = None
    rests_on: Authority | None = None

    def all(self) -> Iterator[Authority]:
        """Yield this authority and those that it rests on."""
        each: Authority | None = self
        while each is not None:
            yield each
            each = each.rests_on


class Keys(msgspec.Struct, frozen=True):
    """The fields of an instance, besides its state, that lists, timers and conditions use. Each is a column of the projection.

    ``owner`` is the account that the instance belongs to. What was granted under an ``epoch`` older than this one is void.
    ``deadline_ms`` is when the instance expires. ``reason`` is why it ended. ``busy`` means that a server process holds
    something for it, such as an open connection.
    """

    owner: str | None = None
    epoch: int = 0
    deadline_ms: int | None = None
    reason: str | None = None
    busy: bool = False


class Words(msgspec.Struct, frozen=True):
    """Texts about a lifecycle's instances, besides the declaration's own sentences. Each part may be omitted.

    ``facts`` maps a guard, or ``not guard``, to a text about the instance and the command's data when it failed.
    ``particulars`` maps an event to what its record's data adds, given the instance before it. ``likely`` maps an event to the
    data of a typical command. ``stands`` returns the state of an instance at a time in ms, by name.
    """

    facts: Mapping[str, Callable[[Any, Any], str]] = {}
    particulars: Mapping[str, Callable[[Any, Any], str]] = {}
    likely: Mapping[str, Callable[[Any, int], Any]] = {}
    stands: Callable[[Any, int], dict[str, Any]] = lambda instance, _now_ms: msgspec.structs.asdict(instance)


class Machine(Generic[InstanceT]):
    """One declared lifecycle, ready to run.

    ``instance`` is the structure of an instance; called with an id, it returns the instance before its creation. ``data`` has
    one structure per event. ``evolve`` returns the instance after a transition. ``guards`` are those that the declaration
    names. ``keys``: see :class:`Keys`. ``copied`` maps ``owner`` and ``reason`` to the events that set them, and each event to
    the field of its data that is copied; a ``reason`` is copied only if the record ends the instance. ``counts`` maps fields of
    an instance that count events to those events; ``epoch`` may be one. The database checks every projection against ``copied``
    and ``counts``. ``essential`` are events that, like ends, are recorded even while the disk is nearly full. ``lasting``: the
    instances have no deadline, so the number of live ones only grows. Each is compared with its records whenever it is read,
    those of other lifecycles once at the start. ``not_found`` returns the error for an unknown id. ``authorise`` raises the
    error for the caller if nothing can be recorded under the authority of an instance at an epoch (None: any) at a time in ms.

    Raises:
        ValueError: ``guards`` or ``data`` do not match the declaration exactly.
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
        """Return the instance with an id, before its creation."""
        self.decode: Final[Callable[[str], InstanceT]] = msgspec.json.Decoder(instance).decode
        """Return an instance from its JSON."""
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
        """Return the transition that ``command`` causes at ``now_ms``. Nothing changes until it is recorded.

        If the caller's clock was set back, the time of the instance's last transition is used, so that time never decreases
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
        """Return the instance that results from its whole history, given in version order."""
        instance = self.absent(instance_id)
        for transition in transitions:
            instance = self.evolve(instance, transition)
        return instance

    def is_essential(self, transition: Transition) -> bool:
        """Return whether ``transition`` is recorded even while the disk is nearly full."""
        return transition.target in self.final or transition.event in self._essential

    def data_of(self, position: int, event: str, text: str) -> Any:
        """Return the data of ``event`` at ``position``, decoded from its JSON ``text``.

        Raises:
            LedgerFault: the event is unknown, or its data does not have the event's shape.
        """
        decoder = self._decoders.get(event)
        if decoder is None:
            raise LedgerFault(position, f"unknown event {event!r} of kind {self.kind}")
        try:
            return decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise LedgerFault(position, f"data of {event} is malformed: {error}") from None


class Machines:
    """The lifecycles of one log, by kind."""

    def __init__(self, *machines: Machine[Any]) -> None:
        self._by_kind: Final = {machine.kind: machine for machine in machines}

    def __iter__(self) -> Iterator[Machine[Any]]:
        """Iterate over the machines."""
        return iter(self._by_kind.values())

    def get(self, kind: str) -> Machine[Any] | None:
        """Return the machine of ``kind``, or None."""
        return self._by_kind.get(kind)

    def is_essential(self, transition: Transition) -> bool:
        """Return whether ``transition`` is recorded even while the disk is nearly full."""
        return self._by_kind[transition.kind].is_essential(transition)

    def of(self, position: int, kind: str) -> Machine[Any]:
        """Return the machine of ``kind``, which the record at ``position`` names.

        Raises:
            LedgerFault: there is no machine of ``kind``.
        """
        machine = self._by_kind.get(kind)
        if machine is None:
            raise LedgerFault(position, f"unknown kind {kind!r}")
        return machine
