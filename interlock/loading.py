"""Loading of realms: those that a setting names, and those of installed packages."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from interlock.machine.errors import RealmInvalid
from interlock.realm import Realm, Realms
from interlock.remote import SUFFIX, RemoteCall, read_remote, uncallable

GROUP: Final = "interlock.realms"
"""The entry points (as in ``[project.entry-points."interlock.realms"]``) of packages that bring a realm."""


def load_realms(paths: Iterable[str] = (), call: RemoteCall = uncallable) -> Realms:
    """Return the realms at ``paths``, and those of the entry points.

    A path is ``package.module:name``, or the file that declares a remote realm, ``path/to/it.toml``. ``call`` makes the
    handlers of remote intents. The working directory is the last place where modules are searched for. A realm that is named
    twice is loaded once.

    Raises:
        RealmInvalid: one can't be imported, is no Realm, or has the name of another; or a file declares something wrong.
    """
    if not {"", here := os.getcwd()} & {*sys.path}:  # noqa: PTH109  # sys.path holds texts
        sys.path.append(here)
    named = [_loaded(path, partial(_found, path, call)) for path in dict.fromkeys(paths)]
    installed = [_loaded(f"{point.name} = {point.value}", point.load) for point in entry_points(group=GROUP)]
    return Realms(dict.fromkeys(named + installed))


def _found(path: str, call: RemoteCall) -> Any:
    if path.endswith(SUFFIX):
        return read_remote(Path(path), call)
    module, _, name = path.partition(":")
    return vars(importlib.import_module(module)).get(name)


def _loaded(called: str, load: Callable[[], Any]) -> Realm:
    try:
        realm = load()
    except RealmInvalid as error:
        raise RealmInvalid(f"realm {called}: {error}") from error
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if frame.filename.startswith("<frozen") else f" ({frame.filename}, line {frame.lineno})"
        raise RealmInvalid(f"realm {called}: {type(error).__name__}: {error}{place}") from error
    if not isinstance(realm, Realm):
        found = (
            "there is no such name in the module" if realm is None else f"it is a {type(realm).__name__}, not a Realm"
        )
        raise RealmInvalid(f"realm {called}: {found}")
    return realm
