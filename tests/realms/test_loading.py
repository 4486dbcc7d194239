"""Realms are found by setting and by entry point; what can't be loaded is refused in one line that says where."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from interlock.loading import load_realms
from interlock.machine.errors import RealmInvalid
from interlock.server.cli.main import main
from interlock.server.settings_loading import load_settings

_MODULE = """
import msgspec
from interlock import Context, Realm

realm = Realm("{name}")
other = 1

class Nothing(msgspec.Struct): ...

@realm.intent("{name}.wait", timeout_s=0.5, roles=["b", "a"])
async def wait(context: Context, parameters: Nothing) -> None: ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory. What is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["realms", *arguments], env={"COLUMNS": "200", **environment})


def test_realms_are_found_in_the_working_directory(folder: Path) -> None:
    (folder / "apples.py").write_text(_MODULE.format(name="apples"))
    (folder / "orchard").mkdir()
    (folder / "orchard" / "tree.py").write_text(_MODULE.format(name="pears"))
    assert [realm.name for realm in load_realms(["apples:realm", "orchard.tree:realm", "apples:realm"])] == [
        "apples",
        "pears",
    ]


def test_a_module_in_the_working_directory_replaces_no_other(folder: Path) -> None:
    (folder / "colorsys.py").write_text("raise AssertionError")
    sys.modules.pop("colorsys", None)
    with pytest.raises(RealmInvalid, match=r"realm colorsys:hls_to_rgb: it is a function, not a Realm"):
        load_realms(["colorsys:hls_to_rgb"])


def test_installed_packages_bring_their_realms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "apples.py").write_text(_MODULE.format(name="apples"))
    about = folder / "apples-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: apples\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[interlock.realms]\nfruit = apples:realm\n")
    monkeypatch.syspath_prepend(folder)
    assert [realm.name for realm in load_realms()] == ["apples"]
    assert [realm.name for realm in load_realms(["apples:realm"])] == ["apples"]
    (about / "entry_points.txt").write_text("[interlock.realms]\nfruit = apples:other\n")
    with pytest.raises(RealmInvalid, match="realm fruit = apples:other: it is a int, not a Realm"):
        load_realms()


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("\n1 / 0", r"ZeroDivisionError: division by zero \(.*bad\.py, line 2\)"),
        ("def:", r"SyntaxError: .*bad\.py, line 1"),
        ("", "there is no such name in the module"),
        ("realm = 1", "it is a int, not a Realm"),
        ("from interlock import Realm\nrealm = Realm('Bad')", "realm 'Bad': a name has"),
    ],
)
def test_a_realm_that_can_not_be_loaded_is_refused_in_one_line(folder: Path, module: str, text: str) -> None:
    (folder / "bad.py").write_text(module)
    with pytest.raises(RealmInvalid, match=f"^realm bad:realm: {text}"):
        load_realms(["bad:realm"])
    told = _run("--realm", "bad:realm")
    assert told.exit_code == 2
    assert told.stderr.startswith("interlock: realm bad:realm: ")
    assert len(told.stderr.splitlines()) == 1


def test_two_realms_of_one_name_are_refused(folder: Path) -> None:
    for module in ("apples", "copy_of_apples"):
        (folder / f"{module}.py").write_text(_MODULE.format(name="apples"))
    with pytest.raises(RealmInvalid, match="two realms are called apples"):
        load_realms(["apples:realm", "copy_of_apples:realm"])


def test_the_setting_is_a_repeated_flag_a_list_or_a_variable(folder: Path) -> None:
    for name in ("apples", "pears"):
        (folder / f"{name}.py").write_text(_MODULE.format(name=name))
    config = folder / "interlock.toml"
    config.write_text('realm = ["apples:realm", "pears:realm"]')
    both = "apples:realm,pears:realm"
    flags = ("--realm", "apples:realm", "--realm", "pears:realm")
    told = [_run("--json", *flags), _run("--json", "--realm", both), _run("--json", INTERLOCK_REALM=both)]
    told.append(_run("--json", "--config", str(config)))
    assert [each.stderr for each in told] == [""] * 4
    assert len({each.stdout for each in told}) == 1
    assert [each["realm"] for each in json.loads(told[0].stdout)] == ["apples", "pears"]
    assert json.loads(_run("--json", "--config", str(config), "--realm", "").stdout) == []
    assert load_settings({"realm": both}, {}).realm == ("apples:realm", "pears:realm")


def test_interlock_realms_prints_what_is_declared(folder: Path) -> None:
    (folder / "apples.py").write_text(_MODULE.format(name="apples"))
    (intent,) = json.loads(_run("--json", "--realm", "apples:realm").stdout)[0]["intents"]
    assert intent == {
        "intent": "apples.wait",
        "description": "",
        "effects": "once",
        "promise": "at most once: after a start it never runs again",
        "timeout_s": 0.5,
        "on_session_end": "cancel",
        "roles": ["a", "b"],
        "parameters": {
            "$ref": "#/$defs/Nothing",
            "$defs": {
                "Nothing": {
                    "title": "Nothing",
                    "type": "object",
                    "properties": {},
                    "required": [],
                    "additionalProperties": False,
                }
            },
        },
        "result": None,
    }
    shown = _run("--realm", "apples:realm").stdout
    for text in ("apples.wait", "once", "at most once", "0.5 s", "cancel", "a, b"):
        assert text in shown
    assert _run().stdout.startswith("no realms are loaded: name one with --realm package.module:name or ")


def test_interlock_realms_shows_the_fields_of_parameters_and_results() -> None:
    shown = _run("--realm", "interlock.examples.notes:realm").stdout
    for text in ("(text) → (note_id, text)", "(contains?) → (notes)", "editors"):
        assert text in shown
