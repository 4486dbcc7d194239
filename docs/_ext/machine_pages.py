"""The reference of everything below HTTP: close codes, messages, data, errors, log, settings, command line."""  # noqa: INP001  # conf.py puts this folder on the path; it is no package

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import click
import msgspec
import pysqlite3
import sqlite_utils
from pieces import as_json, code, fenced, first_paragraph, prose, table
from samples import history, sample_messages

from interlock.machine import errors
from interlock.machine.closing import CLOSE_CODES
from interlock.machine.execution.commands import CancelReason, FailureReason, InterruptionReason
from interlock.machine.machines import MACHINES
from interlock.machine.session.commands import ExpiryReason, Policy, RevocationReason
from interlock.machine.session.machine import SESSION_MACHINE
from interlock.machine.session.messages import ClientMessage, ServerMessage
from interlock.server.cli.main import main
from interlock.server.experience.problems import problem_for
from interlock.server.settings_loading import setting_rows
from interlock.server.surface.sqlite.schema import migrate

_ROOT: Final = Path(__file__).parents[2]
_JSON_TYPES: Final = {
    "str": "string",
    "int": "integer",
    "str | None": "string or null",
    "str | UnsetType": "string, may be missing",
    "int | UnsetType": "integer, may be missing",
    "Raw": "any JSON",
    "Raw | UnsetType": "any JSON, may be missing",
    "list[Raw]": "array of any JSON",
    "EndState": "string: `succeeded`, `failed` or `cancelled`",
    "Annotated[int, Meta(ge=0)]": "integer",
    "Age | None": "integer or null, 0 if left out",
    "Epoch": "integer, 0 if left out",
    "dict[str, Any]": "object",
    "Limits": "object: `message_bytes` (integer), `unanswered` (integer)",
    "StreamPosition": "object: `epoch` (string), `offset` (integer)",
    "Policy": "object",
    "Receipt": "object: `position` (integer), `digest` (string)",
    "ExpiryReason": "string",
    "RevocationReason": "string",
}


def close_codes() -> str:
    """Every way a connection ends."""
    return table(
        ("code", "reason in the close frame", "next", "what the client does"),
        [(f"**{row.code}**", code(row.reason), row.next.value, row.advice) for row in CLOSE_CODES.values()],
    )


def server_messages() -> str:
    """What the server says on a WebSocket."""
    return _messages(get_args(ServerMessage))


def client_messages() -> str:
    """What the client may say."""
    return _messages(get_args(ClientMessage))


def event_data() -> str:
    """The ``data`` of each event."""
    rows = [
        (code(event), _fields(data_type) or "empty", prose(data_type.__doc__))
        for event, data_type in SESSION_MACHINE.data.items()
    ]
    return table(("event", "fields of `data`", "meaning"), rows)


def policy_fields() -> str:
    """The fields of a session's policy."""
    return _fields(Policy)


def reasons() -> str:
    """Why a session can end."""
    return ", ".join(code(reason) for reason in (*get_args(ExpiryReason), *get_args(RevocationReason)))


def execution_reasons() -> str:
    """Why an execution can fail or be cancelled."""
    return ", ".join(
        code(reason) for reason in (*get_args(FailureReason), *get_args(InterruptionReason), *get_args(CancelReason))
    )


def error_tree() -> str:
    """Every error raised on purpose, and the problem it becomes over HTTP."""
    return "\n".join(_error_lines(errors.InterlockError, 0)) + "\n"


def tables_of_the_log() -> str:
    """The tables and indexes, read from a fresh database."""
    return _sql("table") + "\n" + _sql("index")


def triggers_of_the_log() -> str:
    """The triggers, read from a fresh database."""
    return _sql("trigger")


def chain_example() -> str:
    """Two records and how the digest of the second is made."""
    rows, _ = history()
    shown = [{**msgspec.structs.asdict(row), "digest": row.digest.hex()} for row in rows[:2]]
    return as_json(shown)


def settings() -> str:
    """Every setting."""
    rows = []
    for row in setting_rows():
        default = ",".join(row.default) if row.kind is tuple else "" if row.default is None else str(row.default)
        flag = f"{row.flag}`, `--no-{row.flag[2:]}" if row.kind is bool else row.flag
        default = default.lower() if row.kind is bool else default
        rows.append(
            (f"{code(row.name)}<br>{code(flag)}<br>{code(row.variable)}", code(default) or "none", row.description)
        )
    return table(("TOML key, flag, variable", "default", "meaning"), rows)


def command_line() -> str:
    """Every command, from the help that the program itself prints."""
    parts = [prose(main.help) + "\n"]
    context = click.Context(main, info_name="interlock")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None, name  # noqa: S101  # the name was listed a line before
        parts.append("\n".join(_command(name, command, context)))
    return "\n".join(parts)


def scenarios(number: str) -> str:
    """The scenario tests that carry ``number`` (such as ``N4``) in their name, as a list."""
    pattern = re.compile(rf"_{number[0]}0*{number[1:]}(?:_|$)", re.IGNORECASE)
    found = [
        f"- `{path.relative_to(_ROOT)}`<br>`{node.name}`"
        for path in sorted((_ROOT / "tests" / "scenarios").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and pattern.search(node.name)
    ]
    return "Tests:\n\n" + "\n".join(found) if found else "No scenario test yet."


def _messages(kinds: tuple[type, ...]) -> str:
    samples = sample_messages()
    parts = []
    for kind in kinds:
        tag = kind.__struct_config__.tag  # type: ignore[attr-defined]  # msgspec gives it to every Struct
        parts.append(f"### `{tag}`\n\n{prose(kind.__doc__)}\n")
        fields = ((code(name), _JSON_TYPES[annotation]) for name, annotation in inspect.get_annotations(kind).items())
        parts.append(table(("field", "type"), [(code("type"), f'string: `"{tag}"`'), *fields]))
        parts.append(as_json(samples[kind.__name__]))
    return "\n".join(parts)


def _fields(kind: type) -> str:
    return ", ".join(
        f"`{name}` ({_JSON_TYPES[annotation]})"
        for name, annotation in inspect.get_annotations(kind).items()
        if not annotation.startswith("ClassVar")
    )


def _error_lines(error: type[errors.InterlockError], depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}- **`{error.__name__}`**{_status(error)}: {first_paragraph(error.__doc__)}"
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _error_lines(below, depth + 1)


def _status(error: type[errors.InterlockError]) -> str:
    """The problem an error of this class becomes; nothing for those that never reach a client as they are."""
    try:
        instance = error(*["x"] * (len(inspect.signature(error).parameters) if "__init__" in vars(error) else 0))
        problem, _ = problem_for(instance)
    except TypeError:
        return ""
    name = problem.type.rpartition(":")[2]
    return "" if name == "internal-error" else f" → [{problem.status} {name}](problems.md#{name})"


def _sql(kind: str) -> str:
    connection = pysqlite3.connect(":memory:", isolation_level=None)
    migrate(sqlite_utils.Database(connection), MACHINES)
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = ? AND sql IS NOT NULL AND tbl_name NOT LIKE '\\_%' ESCAPE '\\'"
        " ORDER BY rowid",
        (kind,),
    ).fetchall()
    connection.close()
    return fenced("sql", "\n".join(_dedented(sql) + ";" for (sql,) in rows))


def _dedented(sql: str) -> str:
    first, _, rest = sql.strip().partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}".strip()


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield f"{'#' * len(context.command_path.split())} `{context.command_path}`\n"
    yield fenced("text", usage)
    yield from (prose(paragraph) + "\n" for paragraph in (command.help or "").split("\n\n"))
    with_settings = name in {"serve", "doctor"}
    if with_settings:
        yield "Every [setting](settings.md) is a flag; the others are:\n"
    known = {row.name for row in setting_rows()} if with_settings else set()
    rows = [
        (", ".join(map(code, option.opts)), _metavar(option, context), option.help or "", _default(option))
        for option in command.get_params(context)
        if isinstance(option, click.Option) and option.name not in known and not option.hidden
    ]
    if rows:
        yield table(("option", "", "meaning", "default"), rows)
    if isinstance(command, click.Group):
        for part in command.list_commands(context):
            yield from _command(part, command.commands[part], context)


def _metavar(option: click.Option, context: click.Context) -> str:
    return "" if option.is_flag else code(option.make_metavar(context))


def _default(option: click.Option) -> str:
    default: Any = option.default
    return "" if option.is_flag or default is None or not isinstance(default, str | Path) else code(str(default))
