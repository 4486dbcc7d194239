"""The secret's lifecycle, ready to run: the state of a secret, and its fold."""

from __future__ import annotations

from typing import Final, get_args

import msgspec

from interlock.machine.errors import AdminCredentialInvalid, ClientAuthenticationFailed, InterlockError
from interlock.machine.machine import Machine, Transition, Words
from interlock.machine.secret.commands import Add, Data, Purpose, Remove
from interlock.spec.lifecycles import SECRET


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one secret after ``version`` transitions. Times are integer milliseconds since the Unix epoch.

    ``added``: the data of its ``add``, None before.
    """

    secret_id: str
    state: str | None = None
    version: int = 0
    created_at_ms: int = 0
    updated_at_ms: int = 0
    added: Add | None = None


def evolve(secret: Secret, transition: Transition) -> Secret:
    """``secret`` after ``transition``. The caller passes transitions that were decided, in version order."""
    return Secret(
        secret.secret_id,
        transition.target,
        transition.version,
        secret.created_at_ms or transition.at_ms,
        transition.at_ms,
        transition.data if isinstance(transition.data, Add) else secret.added,
    )


def why_refused(purpose: Purpose) -> InterlockError:
    """Return the error for a caller whose secret for ``purpose`` was removed."""
    if purpose == "admin":
        return AdminCredentialInvalid("the administrator's secret was removed")
    return ClientAuthenticationFailed("the client's secret was removed")


def _added(data: Add, _before: Secret) -> str:
    scopes = f", scopes {' '.join(data.scopes)}" if data.scopes else ""
    return f"purpose {data.purpose}, name {data.name}, fingerprint {data.fingerprint}{scopes}"


SECRET_MACHINE: Final = Machine(
    SECRET,
    Secret,
    get_args(Data),
    evolve,
    essential=(Add.event,),
    words=Words(
        particulars={Add.event: _added},
        likely={Remove.event: lambda _secret, _: Remove()},
        stands=lambda secret, _: {"secret": secret.added},
    ),
)
