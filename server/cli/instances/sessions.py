"""``interlock sessions``: list sessions, and end one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import rich_click as click

from interlock.machine.session.commands import ExpiryReason, RevocationReason
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.session import Session
from interlock.server.cli.errors import errors_as_messages
from interlock.server.cli.instances.acts import act, act_options
from interlock.server.cli.instances.lists import (
    cursor_of,
    filter_of,
    list_options,
    lists,
    print_json,
    print_page,
    print_rows,
)
from interlock.server.cli.instances.times import to_the_second
from interlock.server.surface.devices import SessionDevice


@click.group(invoke_without_command=True)
@list_options(SESSION_MACHINE, [*get_args(ExpiryReason), *get_args(RevocationReason)])
@click.pass_context
def sessions(
    context: click.Context, /, data: Path, after: tuple[int, str] | None, limit: int, *, as_json: bool, **filters: Any
) -> None:
    """List sessions, newest first, ended ones too; or act on one.

    The list is read from the log's file, whether or not a server runs. With a range of --updated and no --account it is in the
    order of the last change, otherwise of the creation. An act is a call of the running server.
    """
    from interlock.server.surface.sqlite.observer import open_observer

    if not lists(context):
        return
    with errors_as_messages(), open_observer(data) as observer:
        wanted = filter_of(observer, filters)
        found = observer.page(SESSION_MACHINE, wanted, cursor_of(after), limit)
        devices = observer.devices([each.session_id for each in found])
        print_page(found, limit, wanted.cursor_of, partial(_view if as_json else _table, devices))


def _view(devices: dict[str, SessionDevice], found: Sequence[Session]) -> None:
    from interlock.server.experience.endpoints.administration.responses import admin_session

    print_json(admin_session(each, devices.get(each.session_id)) for each in found)


def _table(devices: dict[str, SessionDevice], found: Sequence[Session]) -> None:
    print_rows(
        ("session", "state", "sockets", "changed (UTC)"),
        ("account", "ended by", "device"),
        (
            (
                (each.session_id, each.state or "", str(len(each.connections)), to_the_second(each.updated_at_ms)),
                (each.subject or "", each.reason or "", _device(devices.get(each.session_id))),
            )
            for each in found
        ),
    )


def _device(seen: SessionDevice | None) -> str:
    return f"{seen.device.name} at {seen.device.address}" if seen else ""


@sessions.command()
@click.argument("session_id", metavar="ID")
@act_options
def end(session_id: str, url: str, *, as_json: bool) -> None:
    """End a session, and close its sockets. One that has ended stays as it is.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    act("DELETE", url, ("sessions", session_id), as_json=as_json, done=lambda _: f"session {session_id} has ended")
