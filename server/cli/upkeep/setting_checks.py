"""Checks of settings, of what they name, and of the machine."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from interlock.machine.errors import SettingsError
from interlock.server.cli.upkeep.findings import Findings
from interlock.server.settings import Settings
from interlock.server.settings_loading import check_environment, known_variables, load_settings

_NO_START: Final = "the server does not start"
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


def loaded_settings(found: Findings, flags: Mapping[str, Any], config: Path | None) -> Settings:
    """Return the settings as a server would load them; if it would refuse them, note it and return the defaults."""
    environment: Mapping[str, str] = os.environ
    try:
        check_environment(environment)
    except SettingsError as error:
        found.error(str(error), _NO_START, "correct the name, or remove the variable")
        environment = {name: environment[name] for name in known_variables() if name in environment}
    try:
        settings = load_settings(flags, environment, config)
    except SettingsError as error:
        found.error(str(error), _NO_START)
        data = flags.get("data") or environment.get("INTERLOCK_DATA")
        return Settings(data=str(data)) if data else Settings()
    found.ok("the settings can be loaded")
    return settings


def check_settings(found: Findings, settings: Settings) -> None:
    """Check settings that contradict each other, or name something that is not there."""
    from interlock.server.guard.passwords.blocklist import Blocklist

    if not settings.unix_socket and _is_public(settings.host) and not settings.trusted_proxies:
        found.warning(
            f"host is {settings.host}, and trusted_proxies is empty",
            "Interlock speaks plain HTTP: without a proxy, passwords and tokens cross the network unencrypted; behind one, all"
            " clients share one address and its rate limits",
            "put a proxy with TLS in front, and name it in trusted_proxies",
        )
    if settings.metrics_port is not None and _is_public(settings.metrics_host):
        found.warning(
            f"metrics_host is {settings.metrics_host}",
            "metrics need no credential: everybody who reaches the port reads them",
        )
    for origin in settings.origins:
        scheme, _, host = origin.partition("://")
        if scheme == "http" and host.rpartition(":")[0] not in _LOOPBACK_NAMES and host not in _LOOPBACK_NAMES:
            found.warning(
                f"origins has {origin}",
                "its pages have no TLS: browsers send them no cookie that Interlock sets, and others can change them",
                "serve them by https",
            )
    if settings.demo:
        found.warning("demo is on", "it is to look around: anybody can run its realms", "leave it off in production")
    if settings.new_head:
        found.warning(
            "new_head is on", "every start signs the log as it is, whoever changed it", "remove it after the one start"
        )
    if settings.refresh_grace_s * 2 > settings.access_token_s:
        found.warning(
            f"refresh_grace_s ({settings.refresh_grace_s:g}) is more than half of access_token_s ({settings.access_token_s})",
            "a copied refresh token is noticed late or not at all",
        )
    if settings.cheap_passwords_for_tests:
        found.error("INTERLOCK_CHEAP_PASSWORDS_FOR_TESTS is set", "password hashes protect nothing", "remove it")
    if settings.otel_endpoint and importlib.util.find_spec("opentelemetry") is None:
        found.error("otel_endpoint is set, and interlock[otel] is not installed", _NO_START)
    with found.errors(_NO_START):
        Blocklist("", (), Path(settings.password_blocklist) if settings.password_blocklist else None)
    with found.errors(_NO_START):
        _check_realms(found, settings)


def _is_public(host: str) -> bool:
    """Return whether other machines may reach ``host``, as far as its text tells."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def check_machine(found: Findings, settings: Settings, running: int | None) -> None:
    """Check SQLite, and the limit of open files: that of the process ``running`` if a server does."""
    from interlock.server.surface.sqlite.engine import check_version, library_version
    from interlock.server.system.descriptors import effective_tcp_total

    with found.errors(_NO_START):
        check_version()
        found.ok(f"SQLite {library_version()}")
    with found.errors("the server can't hold a connection"):
        try:
            _, hard = resource.prlimit(running or 0, resource.RLIMIT_NOFILE)
        except PermissionError:
            # Another user's server.
            running, (_, hard) = None, resource.getrlimit(resource.RLIMIT_NOFILE)
        fits = effective_tcp_total(settings, hard)
        whose = "this shell" if running is None else f"process {running}"
        if fits < settings.tcp_total:
            found.warning(
                f"{hard} open files are allowed in {whose}",
                f"a port takes {fits} connections, not {settings.tcp_total} (tcp_total)",
                "raise LimitNOFILE= in the unit, or lower tcp_total",
            )
        else:
            found.ok(f"{hard} open files are allowed in {whose}")


def _check_realms(found: Findings, settings: Settings) -> None:
    """Load the realms, and look for the secrets of the remote ones.

    Raises:
        RealmInvalid, SettingsError: one can't be loaded.
    """
    from interlock.loading import load_realms
    from interlock.remote import SUFFIX, read_remote, uncallable
    from interlock.server.guard.realm_secrets import RealmSecrets

    load_realms(settings.realms)
    secrets = RealmSecrets(Path(settings.data) / "keys")
    for path in settings.realm:
        if path.endswith(SUFFIX):
            name = read_remote(Path(path), uncallable).name
            if not secrets.texts(name):
                found.error(
                    f"the remote realm {name} has no secret",
                    "it is not called: its executions wait until their time is over",
                    f"interlock realm-secrets add {name}",
                )
