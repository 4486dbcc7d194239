"""``interlock realms``: what the loaded realms declare."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interlock.loading import load_realms
from interlock.realm import PROMISES, Intent
from interlock.schemas import JsonSchema
from interlock.server.cli.errors import errors_as_messages
from interlock.server.cli.options import config_option, setting_options
from interlock.server.settings_loading import load_settings


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the schemas of parameters and results.")
@setting_options("realm")
def realms(config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Load the realms as `serve` does, and print their intents and what is promised about each.

    Exit status 2 if a realm can't be loaded.
    """
    with errors_as_messages():
        loaded = load_realms(load_settings(flags, os.environ, config).realm)
    if as_json:
        described = [{"realm": each.name, "intents": [_described(i) for i in each.intents.values()]} for each in loaded]
        click.echo(json.dumps(described, indent=2))
        return
    for realm in loaded:
        table = Table(
            "intent", "effects", "timeout", "when the session ends", "roles", title=realm.name, show_lines=True
        )
        for intent in realm.intents.values():
            table.add_row(
                f"{intent.name}\n{escape(_signature(intent))}",
                f"{intent.effects}\n{PROMISES[intent.effects]}",
                f"{intent.timeout_ms / 1000:g} s",
                intent.on_session_end,
                escape(", ".join(sorted(intent.roles))) or "any",
            )
        Console(highlight=False).print(table)
    if not [*loaded]:
        click.echo("no realms are loaded: name one with --realm package.module:name or --realm path/to/file.toml")


def _described(intent: Intent) -> dict[str, Any]:
    return {
        "intent": intent.name,
        "description": intent.description,
        "effects": intent.effects,
        "promise": PROMISES[intent.effects],
        "timeout_s": intent.timeout_ms / 1000,
        "on_session_end": intent.on_session_end,
        "roles": sorted(intent.roles),
        "parameters": _parameters_schema(intent.parameters),
        "result": _schema(intent.result) if intent.result else None,
    }


def _schema(declared: type[msgspec.Struct] | JsonSchema) -> dict[str, Any]:
    return declared.schema if isinstance(declared, JsonSchema) else msgspec.json.schema(declared)


def _parameters_schema(parameters: type[msgspec.Struct] | JsonSchema) -> dict[str, Any]:
    """Return the JSON schema of ``parameters``. Unknown fields are refused, whether or not a Python type itself says so."""
    schema = _schema(parameters)
    if isinstance(parameters, JsonSchema):
        return schema
    schema["$defs"][schema["$ref"].rpartition("/")[2]]["additionalProperties"] = False
    return schema


def _signature(intent: Intent) -> str:
    """Return the names of the fields of parameters and result. Those with a default are marked with ``?``."""
    given, returned = (", ".join(_fields(each)) if each else "" for each in (intent.parameters, intent.result))
    return f"({given}) → ({returned})"


def _fields(declared: type[msgspec.Struct] | JsonSchema) -> list[str]:
    if isinstance(declared, JsonSchema):
        required = declared.schema.get("required", ())
        return [name if name in required else f"{name}?" for name in declared.schema.get("properties", ())]
    return [f.encode_name + ("" if f.required else "?") for f in msgspec.structs.fields(declared)]
