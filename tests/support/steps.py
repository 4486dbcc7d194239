"""Steps for a log, decided by the machine as the server decides them."""

from __future__ import annotations

import itertools

import msgspec

from interlock.machine.machine import Command
from interlock.machine.session.commands import Authenticate, Connect, Create, Data, Policy, Touch
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session, evolve
from interlock.server.surface.log import Step

POLICY = Policy(idle_timeout_ms=60_000, absolute_timeout_ms=600_000, connection_limit=3, refresh_grace_ms=5_000)
NOW_MS = 1_800_000_000_000

_numbers = itertools.count(1)


class Story:
    """Builds one session step by step. ``session`` is its current state."""

    def __init__(self, session_id: str | None = None, *, at_ms: int = NOW_MS) -> None:
        self.session = SESSION_MACHINE.absent(session_id or f"session-{next(_numbers)}")
        self.at_ms = at_ms

    @property
    def session_id(self) -> str:
        return self.session.session_id

    def tell(self, *told: Data, command_id: str | None = None) -> list[Step]:
        """Return the steps of ``told``, in order; ``command_id`` names the first."""
        steps = []
        for data in told:
            command = Command(command_id or f"cmd-{next(_numbers)}", self.session.subject or "anonymous", data)
            command_id = None
            transition = SESSION_MACHINE.decide(self.session, command, self.at_ms)
            self.session = evolve(self.session, transition)
            steps.append(Step(transition, self.session))
        return steps

    def begin(self, subject: str | None = None, node: str | None = None) -> list[Step]:
        """Return the steps of a new session; of ``subject`` if given; with a connection on ``node`` if given."""
        told: list[Data] = [Create(POLICY)]
        if subject is not None:
            told.append(Authenticate(subject, "password"))
        if node is not None:
            told.append(Connect(f"con-{next(_numbers)}", node))
        return self.tell(*told)

    def touch(self) -> list[Step]:
        return self.tell(Touch())

    def bad(self) -> list[Step]:
        """Return a step to a state that the declaration forbids. The session is not changed."""
        before: Session = self.session
        (step,) = self.touch()
        self.session = before
        return [Step(msgspec.structs.replace(step.transition, target="expired"), step.instance)]
