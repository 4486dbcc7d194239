"""Checks of settings as written: names of environment variables, and text values.

A misspelt variable would silently do nothing, and a value with a line end would mean something else.
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
"""Variables that Kubernetes sets in containers of a namespace with a Service ``interlock`` or ``interlock-…``."""

_BENCHMARKS: Final = f"{PREFIX}BENCH_"
"""The prefix of variables for a benchmark, which are also in the environment of the server that it starts."""

_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")
"""The start of the values of Kubernetes's ``INTERLOCK_PORT`` and ``INTERLOCK_…_PORT``. No setting has such a value."""


def own_variables(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Return the variables in ``environment`` that are for the server.

    Raises:
        SettingsError: a name starts with Interlock's prefix, in any case, and is not in ``known``.
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
    """Return the end of a sentence that suggests the name in ``known`` most like ``name``; empty if none is similar."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def check_text(written: str, value: Any) -> None:
    """Refuse characters that files and shells add by mistake: line ends, other control characters, blanks around a value.

    Raises:
        SettingsError: there is one. The message omits the value, which may be a misplaced secret.
    """
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and not text.isprintable():
            raise SettingsError(f"{written}: the value has a line end or another character that can't be printed")
        if isinstance(text, str) and text != text.strip():
            raise SettingsError(f"{written}: the value starts or ends with a space")


def _is_for_others(name: str, value: str) -> bool:
    set_by_kubernetes = _KUBERNETES.match(name) or (name.endswith("_PORT") and _SERVICE_ADDRESS.match(value))
    return bool(set_by_kubernetes) or name.startswith(_BENCHMARKS)
