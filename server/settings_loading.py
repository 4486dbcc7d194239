"""Loading of settings from flags, environment variables and a TOML file.

Setting ``x`` is the flag ``--x`` (with ``-`` for ``_``), the variable ``INTERLOCK_X``, or the key ``x`` of the TOML file that
``--config`` or ``INTERLOCK_CONFIG`` names. The flag overrides the variable, and the variable overrides the file.
"""

from __future__ import annotations

import functools
import re
import socket
import tomllib
import types
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import Meta, inspect
from msgspec.inspect import type_info

from interlock.machine.errors import SettingsError
from interlock.server.environment import PREFIX, check_text, not_settings, own_variables
from interlock.server.settings import Settings
from interlock.server.system.permissions import read_regular


class SettingRow(msgspec.Struct, frozen=True):
    """One setting, for flags and docs. ``kind`` is str, int, float, bool or tuple (comma-separated)."""

    name: str
    kind: type
    default: Any
    description: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{PREFIX}{self.name.upper()}"


@functools.cache
def setting_rows() -> tuple[SettingRow, ...]:
    """Return every setting, in order of declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(
        SettingRow(field.name, _kind(hints[field.name]), field.default, _description(hints[field.name]))
        for field in msgspec.structs.fields(Settings)
        if field.name != _TESTS_ONLY
    )


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str], config: Path | None = None) -> Settings:
    """Return the settings from flags (the given ones, by setting name), environment and TOML file.

    Raises:
        SettingsError: the file can't be read; a setting is unknown, of the wrong type or out of range, or conflicts with
            another. The message names the setting as the user wrote it.
    """
    environment = check_environment(environment)
    config = config or (Path(environment[_CONFIG]) if environment.get(_CONFIG) else None)
    values = _from_file(config) if config is not None else {}
    written = {name: f"{config}: {name}" for name in values}
    for row in setting_rows():
        if row.variable in environment:
            values[row.name] = _from_text(row, environment[row.variable])
            written[row.name] = row.variable
    values[_TESTS_ONLY] = environment.get(_TESTS_ONLY_VARIABLE) == "1"
    for row in setting_rows():
        given = flags.get(row.name)
        if given is not None:
            values[row.name] = _from_text(row, given) if isinstance(given, str) else given
            written[row.name] = row.flag
    for name, value in values.items():
        check_text(written.get(name, name), value)
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), written) from None
    if _share_a_port(settings):
        raise SettingsError(
            f"{written['metrics_port']}: {settings.metrics_port} is the port of the API; metrics need one of their own"
        )
    return settings


def check_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables in ``environment`` that Interlock reads.

    Raises:
        SettingsError: a name is misspelt.
    """
    return own_variables(environment, known_variables())


def known_variables() -> list[str]:
    """Return the names of the environment variables that Interlock reads."""
    return [*(row.variable for row in setting_rows()), _CONFIG, _TESTS_ONLY_VARIABLE, *CLIENT_VARIABLES]


def _from_file(config: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(read_regular(config).decode())
    except OSError as error:
        raise SettingsError(f"{config}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{config}: not valid TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config}: not valid TOML: {error}") from None
    names = [row.name for row in setting_rows()]
    unknown = values.keys() - names
    for name in sorted(unknown):
        if isinstance(values[name], dict):
            raise SettingsError(f"{config}: [{name}]: settings stand at the top level; tables are not used")
    if unknown:
        raise SettingsError(f"{config}: {not_settings(unknown, names)}")
    return values


def _refusal(said: str, written: Mapping[str, str]) -> SettingsError:
    """Return msgspec's error for the user: the setting as written, and what was expected, in words."""
    place = _PLACE.search(said)
    assert place is not None  # noqa: S101  # the file is a table with known names by now, so the path names a setting
    name, index = place[1], place[2]
    kind: Any = type_info(get_type_hints(Settings, include_extras=True)[name])
    if index:
        return SettingsError(f"{written[name]}, entry {int(index) + 1}: expected {_words(kind.type.item_type)}")
    return SettingsError(f"{written[name]}: expected {_words(kind)}")


def _words(kind: inspect.Type) -> str:  # noqa: PLR0911  # one for each kind of setting
    """Return in words which values ``kind`` accepts."""
    match kind:
        case inspect.Metadata(extra={"wanted": words}):
            return str(words)
        case inspect.Metadata(type=inner) | inspect.UnionType(types=(inner, *_)):
            return _words(inner)
        case inspect.IntType(ge=lowest, le=highest):
            return f"a whole number from {lowest} to {highest}"
        case inspect.FloatType(gt=None, ge=lowest, le=highest):
            return f"a number from {lowest} to {highest}"
        case inspect.FloatType(gt=limit, le=highest):
            return f"a number above {limit}, up to {highest}"
        case inspect.StrType(min_length=int(), max_length=None):
            return "a text that is not empty"
        case inspect.StrType(min_length=int() as shortest, max_length=longest):
            return f"a text of {shortest} to {longest} characters"
        case inspect.BoolType():
            return "true or false"
        case inspect.VarTupleType():
            return "a list"
    return "a text"


def _share_a_port(settings: Settings) -> bool:
    hosts = {_address(settings.host), _address(settings.metrics_host)}
    return (
        not settings.unix_socket
        and bool(settings.metrics_port)
        and settings.metrics_port == settings.port
        and (len(hosts) == 1 or not hosts.isdisjoint(_EVERY_ADDRESS))
    )


def _address(host: str) -> str:
    """Return ``host`` in canonical form, as the system interprets it when listening; a name is returned unchanged."""
    try:
        if ":" not in host:
            return str(IPv4Address(socket.inet_aton(host)))
        address = IPv6Address(host.partition("%")[0])
    except (OSError, ValueError):
        return host
    return str(address.ipv4_mapped or address)


def _from_text(row: SettingRow, text: str) -> Any:
    return tuple(part.strip(" ") for part in text.split(",") if part.strip(" ")) if row.kind is tuple else text


def _kind(hint: Any) -> type:
    while not isinstance(hint, type | types.GenericAlias):
        hint = get_args(hint)[0]
    return tuple if isinstance(hint, types.GenericAlias) else hint


def _description(hint: Any) -> str:
    return next(m.description for m in hint.__metadata__ if isinstance(m, Meta) and m.description)


CLIENT_VARIABLES: Final = (f"{PREFIX}URL", f"{PREFIX}ADMIN_TOKEN")
"""What commands that call a server read: its address, and an administrator's secret."""

_CONFIG: Final = f"{PREFIX}CONFIG"
_TESTS_ONLY: Final = "cheap_passwords_for_tests"
_TESTS_ONLY_VARIABLE: Final = f"{PREFIX}{_TESTS_ONLY.upper()}"
_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # nothing is bound to them here
_PLACE: Final = re.compile(r"`\$\.(\w+)(?:\[(\d+)\])?`$")
