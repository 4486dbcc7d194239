"""``interlock doctor``: what is off in this installation, in words."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape

from interlock.server.cli.options import config_option, setting_options
from interlock.server.cli.upkeep.findings import STATUS, Finding, Findings, Level
from interlock.server.system.streams import printable

_STYLE: Final[dict[Level, str]] = {"error": "bold red", "warning": "yellow", "ok": "green"}


@click.command()
@config_option
@click.option("--verify", is_flag=True, help="Also read the whole log, as `interlock verify` does.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: level, what, why, advice.")
@setting_options()
def doctor(config: Path | None, *, verify: bool, as_json: bool, **flags: Any) -> None:
    """Say what is off in this installation: what, why it matters, and what to do.

    Give it the same settings as the server: the same file, variables and flags. It checks them, the data folder with its keys,
    log and head, the machine, webhooks and realms, mostly by the checks of a start. It changes nothing, and may run beside the
    server.

    Exit status 0: nothing is off. 1: there are warnings. 2: there are errors: the server does not start, or a part is broken.
    """
    from interlock.server.cli.upkeep.folder_checks import check_folder
    from interlock.server.cli.upkeep.setting_checks import check_machine, check_settings, loaded_settings

    found = Findings()
    settings = loaded_settings(found, flags, config)
    check_settings(found, settings)
    running = check_folder(found, settings)
    check_machine(found, settings, running)
    if verify:
        _verify(found, Path(settings.data), settings.head_path)
    worst = max(found.all, key=lambda each: STATUS[each.level]).level
    if as_json:
        for each in found.all:
            click.echo(msgspec.json.encode(each))
    else:
        _print(found.all)
    sys.exit(STATUS[worst])


def _verify(found: Findings, data: Path, head_path: Path) -> None:
    from interlock.server.cli.verify import run

    with found.errors("the log can't be read"):
        # It prints what it finds: not between the lines of JSON.
        with redirect_stdout(sys.stderr):
            status = run(data, head_path if head_path.exists() else None, (), (), require_head=True, at_least=0)
        if status:
            found.error("the log is not as the server wrote it", "nothing in it can be relied on", "restore a backup")


def _print(findings: list[Finding]) -> None:
    """Print what is off first to last, the worst last, where a terminal shows it."""
    console = Console(highlight=False)
    for each in sorted(findings, key=lambda each: STATUS[each.level]):
        style = _STYLE[each.level]
        console.print(f"[{style}]{each.level:<8}[/{style}] {escape(printable(each.what))}", soft_wrap=True)
        if each.why:
            console.print(f"         [dim]why:[/dim] {escape(printable(each.why))}", soft_wrap=True)
        if each.advice:
            console.print(f"         [dim]do:[/dim]  {escape(printable(each.advice))}", soft_wrap=True)
