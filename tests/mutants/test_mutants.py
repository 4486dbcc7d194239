"""The seeded bugs can be seeded, and a runner reports one that survives."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from interlock.server.settings_loading import setting_rows
from interlock.spec.properties import PROPERTIES
from tests.mutants.__main__ import main
from tests.mutants.catalogue import CONNECTION, MEASURES, MUTANTS
from tests.mutants.check import check
from tests.mutants.edit import at, replace, returns
from tests.mutants.mutant import Mutant, apply
from tests.mutants.trial import CAUGHT, Run, judge, running

# The trace says of every record that it was decided on the version before it. A bug in the code can't change that: a
# decision on an older version breaks versions_gapless.
UNBREAKABLE = {"no_lost_update"}

HARMLESS = Mutant(
    "A session is described in other words.",
    "declared_only",
    "test_a_whole_session_life",
    at("session:Session", replace("rotation: int = 0", "rotation: int = 0 + 0")),
    says="in declared_only",
)


def test_each_mutant_can_still_be_made() -> None:
    assert check([*MUTANTS, *CONNECTION, *MEASURES]) == []


def test_every_property_has_a_mutant_and_every_mutant_a_property() -> None:
    published = {promised.name for promised in PROPERTIES}
    broken = {mutant.breaks for mutant in MUTANTS}
    assert broken <= published
    assert published - broken == UNBREAKABLE


def test_connection_mutants_name_a_standard_or_a_setting() -> None:
    settings = {row.name for row in setting_rows()}
    for mutant in CONNECTION:
        assert (
            re.fullmatch(r"RFC \d{4}, [\d.]+|Standard Webhooks [\d.]+", mutant.breaks) or mutant.breaks in settings
        ), mutant.breaks


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ({"edits": at("session:Session", replace("nobody_wrote_this", "1"))}, "matches 0 times"),
        ({"edits": at("session:_touched", returns("nobody_wrote_this"))}, "F821"),
        ({"caught_by": "test_nobody_wrote_this"}, "is in 0 files"),
    ],
    ids=["its node", "a name", "its test"],
)
def test_a_mutant_that_can_not_be_made_is_an_error(lost: dict[str, Any], says: str) -> None:
    [fault] = check([msgspec.structs.replace(HARMLESS, **lost)])
    assert fault.startswith(HARMLESS.bug)
    assert says in fault


def test_mutants_are_unique() -> None:
    assert check([HARMLESS, HARMLESS])


def test_a_harmless_mutant_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [HARMLESS]) == 1
    said = capsys.readouterr().out
    assert "SURVIVED" in said
    assert "0 of 1 mutants caught" in said


def test_an_unknown_mutant_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nobody"], [HARMLESS])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("status", "output", "says"),
    [
        (1, "E  in declared_only", CAUGHT),
        (1, "E  something else", "failed without saying 'in declared_only'"),
        (1, "in declared_only\nE   NameError: name 'x'", "no bug but broken code: E   NameError: name 'x'"),
        (0, "in declared_only", "SURVIVED"),
        (2, "in declared_only", "no verdict: pytest ended with status 2"),
        (-9, "in declared_only", "no verdict: pytest ended with status -9"),
        (None, "in declared_only", "ran out of time"),
    ],
)
def test_only_a_failed_test_with_the_right_output_catches(status: int | None, output: str, says: str) -> None:
    assert judge(HARMLESS, Run(status, output, 0.0)) == says


def test_a_mutants_file_is_not_shared(tmp_path: Path) -> None:
    """The other copies are links to the same file."""
    (tmp_path / "machine").mkdir()
    path, other = tmp_path / "machine" / "door.py", tmp_path / "other.py"
    path.write_text("SIZE = 1\n")
    other.hardlink_to(path)
    apply(msgspec.structs.replace(HARMLESS, edits=at("door:SIZE", replace("1", "2"))), tmp_path)
    assert (path.read_text(), other.read_text()) == ("SIZE = 2\n", "SIZE = 1\n")


def test_a_timed_out_run_is_killed_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(
        "import subprocess, sys\n"
        "def test_it():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    open('child', 'w').write(str(child.pid))\n"
        "    child.wait()\n"
    )
    # The limit includes starting pytest, which may take longer on a busy machine.
    with running() as runner:
        for limit_s in (3, 15, 60):
            run = runner.run(tmp_path, ["test_slow.py"], limit_s=limit_s)
            assert run.status is None
            if (tmp_path / "child").exists():
                break
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not _lives(child):
            return
        time.sleep(0.02)
    pytest.fail("what the node started is still there")


def _lives(process_id: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
