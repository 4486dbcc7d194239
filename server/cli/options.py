"""Settings as options of a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from interlock.server.settings_loading import SettingRow, setting_rows

config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="TOML file of settings. [env: INTERLOCK_CONFIG]"
)

head_option = click.option(
    "--head-file",
    type=click.Path(path_type=Path),
    envvar="INTERLOCK_HEAD_FILE",
    help="The log's signed head; if not given, interlock.head beside the log.",
)


def setting_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command an option for each setting, or for those with ``names``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for row in reversed(setting_rows()):
            if not names or row.name in names:
                command = _option(row)(command)
        return command

    return decorate


def _option(row: SettingRow) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    shown = ",".join(row.default) or "none" if row.kind is tuple else "none" if row.default is None else row.default
    off = f"--no-{row.flag[2:]}"
    default = f"{shown}; off: {off}" if row.kind is bool else shown
    help_text = f"{row.description} [default: {default}; env: {row.variable}]"
    if row.kind is bool:
        return click.option(f"{row.flag}/{off}", row.name, default=None, help=help_text)
    if row.kind is tuple:
        return click.option(row.flag, row.name, type=str, multiple=True, callback=_joined, help=help_text)
    return click.option(row.flag, row.name, type=row.kind, default=None, help=help_text)


def _joined(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) if values else None
