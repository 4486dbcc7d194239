"""Sockets to listen on: bound before anything else is opened, so that an address in use is reported first."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from contextlib import suppress
from typing import Final

from interlock.machine.errors import SettingsError
from interlock.server.environment import PREFIX

_SOCKET_MODE: Final = 0o660
"""Owner and group may connect. The folder's mode restricts access further."""


def bind_port(host: str, port: int, setting: str) -> socket.socket:
    """Return a TCP socket bound to ``port``; ``setting`` is the name of the port's setting.

    Raises:
        SettingsError: it can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise cant_listen(f"{host} port {port}", setting, error) from error
    return listener


def bind_unix_socket(path: str) -> socket.socket:
    """Return a Unix socket bound to ``path``. A socket that a killed server left there is replaced.

    Raises:
        SettingsError: it can't be bound, another server listens there, or another file is in the way.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(path)
        # Whatever the umask: a proxy runs as another user.
        os.chmod(path, _SOCKET_MODE)  # noqa: PTH101  # the path of a socket, not of a file that is opened
    except OSError as error:
        listener.close()
        raise cant_listen(path, "unix_socket", error) from error
    except SettingsError:
        listener.close()
        raise
    return listener


def remove_unix_socket(path: str) -> None:
    """Remove the Unix socket at ``path``, which its server has closed."""
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108  # see above


def url_of(listener: socket.socket) -> str:
    """Return the URL of the root of ``listener``; of a Unix socket ``unix:`` and its path."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Return whether only this machine can connect to ``listener``."""
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def cant_listen(where: str, setting: str, error: OSError) -> SettingsError:
    """Return the error of a listener at ``where`` for the user, with advice."""
    advice = ""
    if error.errno == errno.EADDRINUSE:
        names = f"--{setting.replace('_', '-')} or {PREFIX}{setting.upper()}"
        thing = "path" if setting == "unix_socket" else "port"
        advice = f"; end that program, or choose another {thing}: {names}"
    return SettingsError(f"can't listen on {where}: {error.strerror or error}{advice}")


def _remove_stale(path: str) -> None:
    """Remove the socket at ``path`` if no process listens on it.

    Raises:
        SettingsError: the file at ``path`` is not a socket.
        OSError: a process listens on it; the file can't be removed.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SettingsError(f"can't listen on {path}: it is not a socket; remove it, or choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108  # see above
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
