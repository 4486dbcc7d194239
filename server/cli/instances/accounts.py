"""``interlock accounts``: list accounts, disable, enable and delete one, set its groups, end its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from interlock.machine.account.account import Account
from interlock.machine.account.machine import ACCOUNT_MACHINE
from interlock.server.cli.errors import errors_as_messages
from interlock.server.cli.instances.acts import act, act_options
from interlock.server.cli.instances.lists import (
    account_by_email,
    cursor_of,
    list_options,
    lists,
    print_json,
    print_page,
    print_rows,
)
from interlock.server.cli.instances.times import to_the_second


@click.group(invoke_without_command=True)
@list_options(ACCOUNT_MACHINE, of_account=False)
@click.option("--email", help="Only the account with this address.")
@click.pass_context
def accounts(  # noqa: PLR0913  # each is an option
    context: click.Context,
    /,
    data: Path,
    after: tuple[int, str] | None,
    limit: int,
    *,
    as_json: bool,
    state: str | None,
    email: str | None,
) -> None:
    """List accounts, newest first, deleted ones too; or act on one.

    The list is read from the log's file, whether or not a server runs. An act is a call of the running server.
    """
    from interlock.server.surface.directory import Cursor, InstanceFilter
    from interlock.server.surface.sqlite.observer import open_observer

    if not lists(context):
        return
    with errors_as_messages(), open_observer(data) as observer:
        if email is not None:
            account = account_by_email(observer, email)
            found = [account] if account is not None and state in {None, account.state} else []
        else:
            found = observer.page(ACCOUNT_MACHINE, InstanceFilter(state), cursor_of(after), limit)
        emails = observer.emails(found)

        def table(rows: Sequence[Account]) -> None:
            print_rows(
                ("account", "state", "changed (UTC)"),
                ("email", "groups"),
                (
                    (
                        (each.account_id, each.state or "", to_the_second(each.updated_at_ms)),
                        (emails.get(each.account_id, ""), ", ".join(each.groups)),
                    )
                    for each in rows
                ),
            )

        def view(rows: Sequence[Account]) -> None:
            from interlock.server.experience.endpoints.administration.responses import admin_account

            print_json(admin_account(each, emails.get(each.account_id)) for each in rows)

        print_page(found, limit if email is None else 0, Cursor.of, view if as_json else table)


@accounts.command()
@click.argument("account_id", metavar="ID")
@act_options
def disable(account_id: str, url: str, *, as_json: bool) -> None:
    """Disable an account: end all its sessions, and refuse logins until it is enabled again.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    act("POST", url, ("accounts", account_id, "disable"), as_json=as_json, done=_ended)


@accounts.command()
@click.argument("account_id", metavar="ID")
@act_options
def enable(account_id: str, url: str, *, as_json: bool) -> None:
    """Let the owner of a disabled account log in again. Ended sessions stay ended.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    act(
        "POST",
        url,
        ("accounts", account_id, "enable"),
        as_json=as_json,
        done=lambda told: f"account {told['subject']} is {told['state']}",
    )


@accounts.command()
@click.argument("account_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask.")
@act_options
def delete(account_id: str, url: str, *, yes: bool, as_json: bool) -> None:
    """Delete an account for ever: erase its owner's address, password and identity, and end all its sessions.

    Its records stay, and name it by its id only. The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    if not yes:
        click.confirm(f"Delete account {account_id}? It can't be brought back", abort=True, err=True)
    act("DELETE", url, ("accounts", account_id), as_json=as_json, done=_ended)


@accounts.command()
@click.argument("account_id", metavar="ID")
@click.argument("names", metavar="[GROUP]...", nargs=-1)
@act_options
def groups(account_id: str, names: tuple[str, ...], url: str, *, as_json: bool) -> None:
    """Replace the groups of an account by those given, possibly none.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    said = ", ".join(names) or "none"
    act(
        "PUT",
        url,
        ("accounts", account_id, "groups"),
        as_json=as_json,
        body={"groups": [*names]},
        done=lambda told: f"the groups of account {told['subject']}: {said}",
    )


@accounts.command("end-sessions")
@click.argument("account_id", metavar="ID")
@act_options
def end_sessions(account_id: str, url: str, *, as_json: bool) -> None:
    """End every session of an account, and close their sockets. Its owner may log in again.

    The administrator's secret is read from INTERLOCK_ADMIN_TOKEN.
    """
    act(
        "DELETE",
        url,
        ("accounts", account_id, "sessions"),
        as_json=as_json,
        done=lambda told: f"sessions ended: {told['ended']}",
    )


def _ended(told: Any) -> str:
    return f"account {told['subject']} is {told['state']}; sessions ended: {told['ended']}"
