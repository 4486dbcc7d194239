"""The seeded bugs can be seeded, and a runner that lets one survive says so."""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec
import pytest

from interlock.server.settings_loading import setting_rows
from interlock.spec.properties import PROPERTIES
from tests.mutants.__main__ import main
from tests.mutants.catalogue import CONNECTION, MUTANTS
from tests.mutants.mutant import Mutant, MutantError, apply, edited
from tests.mutants.trial import CAUGHT, ROOT, Run, judge, run_nodes

# The trace says of every record that it was decided on the version before it. A bug in the code can't make it say
# otherwise: what decides on an older version breaks versions_gapless.
UNBREAKABLE = {"no_lost_update"}

# Accounts are not in the log yet, so no bug of the real code can break these by name. The mutants of the model do.
IN_THE_MODEL_ALONE = {
    "authority_at_append",
    "deleted_absorbs",
    "disabled_never_serves",
    "old_password_never_admits",
    "overtaken_change_refused",
}

HARMLESS = Mutant(
    "a-comment",
    "machine/session/session.py",
    "A comment is another one.",
    "declared_only",
    "tests/machine/test_session.py::test_a_whole_life",
    "in declared_only",
    (('"""One session: its fields,', '"""A session: its fields,'),),
)


@pytest.mark.parametrize("mutant", [*MUTANTS, *CONNECTION], ids=lambda mutant: mutant.name)
def test_a_bug_can_still_be_written_into_the_code(mutant: Mutant) -> None:
    assert mutant.file.startswith(("spec/", "machine/", "server/")), "real code, not a test"
    text = (ROOT / mutant.file).read_text()
    assert edited(mutant, text) != text
    file, _, name = mutant.caught_by.partition("::")
    assert (ROOT / file).is_file()
    assert name
    assert mutant.says


def test_every_property_has_a_mutant_and_every_mutant_a_property() -> None:
    published = {promised.name for promised in PROPERTIES}
    broken = {mutant.breaks for mutant in MUTANTS}
    assert broken <= published
    assert published - broken == UNBREAKABLE | IN_THE_MODEL_ALONE


def test_a_bug_of_the_connection_breaks_a_standard_or_a_setting() -> None:
    settings = {row.name for row in setting_rows()}
    for mutant in CONNECTION:
        assert re.fullmatch(r"RFC \d{4}, [\d.]+", mutant.breaks) or mutant.breaks in settings, mutant.breaks


def test_names_are_unique_and_bugs_are_sentences() -> None:
    every = [*MUTANTS, *CONNECTION]
    assert len({mutant.name for mutant in every}) == len(every)
    assert all(re.fullmatch(r"[a-z-]+", mutant.name) for mutant in every)
    assert all(mutant.bug.endswith(".") for mutant in every)


@pytest.mark.parametrize("text", ["nobody wrote this", "return"], ids=["gone", "twice"])
def test_an_edit_that_has_lost_its_place_names_the_mutant(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    lost = msgspec.structs.replace(HARMLESS, name="lost", edits=((text, ""),))
    with pytest.raises(MutantError, match=r"^lost: machine/session\.py holds this"):
        edited(lost, (ROOT / lost.file).read_text())
    assert main([], [lost]) == 1
    assert "lost: machine/session/session.py" in capsys.readouterr().out


def test_an_edit_that_is_no_python_is_no_mutant() -> None:
    with pytest.raises(MutantError, match=r"^broken: .* is no Python"):
        edited(msgspec.structs.replace(HARMLESS, name="broken", edits=(("a", "(a"),)), "a")


def test_a_mutant_that_changes_nothing_that_matters_survives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], [HARMLESS]) == 1
    said = capsys.readouterr().out
    assert "SURVIVED" in said
    assert "0 of 1 mutants caught" in said


def test_a_node_that_does_not_pass_by_itself_catches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = "tests/machine/test_session.py::test_nobody_wrote_this"
    assert main([], [msgspec.structs.replace(HARMLESS, caught_by=nowhere)]) == 1
    assert "control run failed" in capsys.readouterr().out


def test_a_mutant_that_is_not_there_is_not_tried() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "nobody"], [HARMLESS])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("status", "output", "says"),
    [
        (1, "E  in declared_only", CAUGHT),
        (1, "E  something else", "failed without saying 'in declared_only'"),
        (0, "in declared_only", "SURVIVED"),
        (2, "in declared_only", "no verdict: pytest ended with status 2"),
        (-9, "in declared_only", "no verdict: pytest ended with status -9"),
        (None, "in declared_only", "ran out of time"),
    ],
)
def test_only_a_failed_test_that_says_why_catches(status: int | None, output: str, says: str) -> None:
    assert judge(HARMLESS, Run(status, output, 0.0)) == says


def test_a_mutant_is_a_file_of_its_own(tmp_path: Path) -> None:
    """The other copies are links to the same file."""
    (tmp_path / "machine").mkdir()
    path, other = tmp_path / HARMLESS.file, tmp_path / "other.py"
    path.write_text((ROOT / HARMLESS.file).read_text())
    other.hardlink_to(path)
    apply(HARMLESS, tmp_path)
    assert path.read_text() != other.read_text() == (ROOT / HARMLESS.file).read_text()


def test_what_runs_out_of_time_is_ended_with_all_it_started(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text(
        "import subprocess, sys\n"
        "def test_it():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    open('child', 'w').write(str(child.pid))\n"
        "    child.wait()\n"
    )
    # The limit is also for starting pytest, which on a busy machine may take longer.
    for limit_s in (3, 15, 60):
        run = run_nodes(tmp_path, ["test_slow.py"], limit_s=limit_s)
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
    """It is there, and not merely waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
