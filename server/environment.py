"""What settings are written as: variables of the environment, and texts.

One that is misspelt would otherwise do nothing, in silence, and one with a line end would mean something else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from interlock.machine.errors import SettingsError

PREFIX: Final = "INTERLOCK_"

_KUBERNETES: Final = re.compile(
    r"INTERLOCK_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)\Z"
)
"""What Kubernetes puts into every container of a namespace with a Service ``interlock`` or ``interlock-…`` (service links)."""

_BENCHMARKS: Final = f"{PREFIX}BENCH_"
"""How the variables begin that a benchmark reads which starts the server, and with it the server's environment."""

_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
"""How the value of its ``INTERLOCK_PORT`` and ``INTERLOCK_…_PORT`` begins. No setting's value does."""


def own_variables(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """The variables of Interlock in ``environment``. Those that are not for the server are left out.

    Raises:
        SettingsError: the name of another begins like ours, in whichever case, and is not in ``known``.
    """
    own = {
        name: value
        for name, value in environment.items()
        if name.upper().startswith(PREFIX) and not _is_for_others(name, value)
    }
    for name in sorted(own.keys() - known):
        raise SettingsError(f"{name} is not a setting{suggestion(name.upper(), known)}")
    return own


def suggestion(name: str, known: Collection[str]) -> str:
    """The end of a sentence that says which of ``known`` is meant by ``name``; empty if none is like it."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_text(written: str, value: Any) -> None:
    """Refuse what no setting has and files and shells add: a line end, another control character, blanks around a value.

    Raises:
        SettingsError: there is one; the value is not said, since it may be a secret in the wrong place.
    """
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and not text.isprintable():
            raise SettingsError(f"{written}: the value has a line end or another character that can't be printed")
        if isinstance(text, str) and text != text.strip():
            raise SettingsError(f"{written}: the value starts or ends with a space")


def _is_for_others(name: str, value: str) -> bool:
    set_by_kubernetes = _KUBERNETES.match(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(value))
    return bool(set_by_kubernetes) or name.startswith(_BENCHMARKS)
