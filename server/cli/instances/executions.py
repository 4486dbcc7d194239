"""``interlock executions``: list executions, and cancel one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import rich_click as click

from interlock.machine.execution.commands import CancelReason, FailureReason, InterruptionReason
from interlock.machine.execution.execution import Execution
from interlock.machine.execution.machine import EXECUTION_MACHINE
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

_REASONS: Final = dict.fromkeys((*get_args(FailureReason), *get_args(InterruptionReason), *get_args(CancelReason)))


@click.group(invoke_without_command=True)
@list_options(EXECUTION_MACHINE, [*_REASONS])
@click.pass_context
def executions(
    context: click.Context, /, data: Path, after: tuple[int, str] | None, limit: int, *, as_json: bool, **filters: Any
) -> None:
    """List executions of intents, newest first, ended ones too; or act on one.

    The list is read from the log's file, whether or not a server runs; parameters, results and errors are not shown. With a
    range of --updated and no --account it is in the order of the last change, otherwise of the creation. An act is a call of
    the running server.
    """
    from interlock.server.surface.sqlite.observer import open_observer

    if not lists(context):
        return
    with errors_as_messages(), open_observer(data) as observer:
        wanted = filter_of(observer, filters)
        found = observer.page(EXECUTION_MACHINE, wanted, cursor_of(after), limit)
        print_page(found, limit, wanted.cursor_of, _view if as_json else _table)


def _view(found: Sequence[Execution]) -> None:
    from interlock.server.experience.endpoints.administration.responses import admin_execution

    print_json(map(admin_execution, found))


def _table(found: Sequence[Execution]) -> None:
    print_rows(
        ("execution", "state", "attempt", "changed (UTC)"),
        ("intent", "account", "reason"),
        (
            (
                (each.execution_id, each.state or "", str(each.attempt), to_the_second(each.updated_at_ms)),
                (each.intent, each.subject or "", each.reason or ""),
            )
            for each in found
        ),
    )


@executions.command()
@click.argument("execution_id", metavar="ID")
@act_options
def cancel(execution_id: str, url: str, *, as_json: bool) -> None:
    """Cancel an execution, as its owner could, and wait for its end. One that has ended stays as it is.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    act(
        "DELETE",
        url,
        ("executions", execution_id),
        as_json=as_json,
        done=lambda told: f"execution {execution_id} is {told['state']}",
    )
