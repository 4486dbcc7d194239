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

_SIMILAR: Final = 0.75
"""The least similarity of a suggested name, 1 for equal ones."""

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
    if unknown := own.keys() - known:
        raise SettingsError(not_settings(unknown, known))
    return own


def not_settings(names: Collection[str], known: Collection[str]) -> str:
    """Return the message that none of ``names`` is a setting. It suggests for each the most similar of ``known``, if any."""
    # The common prefix is left out: with it, any two variables are similar.
    bare = {each.upper().removeprefix(PREFIX): each for each in known}

    def suggestion(name: str) -> str:
        close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), bare, n=1, cutoff=_SIMILAR)
        return f" (did you mean {bare[close[0]]}?)" if close else ""

    return "; ".join(f"{name} is not a setting{suggestion(name)}" for name in sorted(names))


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
