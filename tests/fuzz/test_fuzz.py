"""A short run of the fuzzing; ``make fuzz`` takes five minutes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.fuzz.world import World, world

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


@pytest.mark.asvs("9.1.1", "9.2.2")
@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
def test_fuzzing_breaks_nothing_and_gets_nothing_accepted(
    attacked: World, make: Callable[[World], Callable[[], None]]
) -> None:
    before = attacked.tries
    make(attacked)()
    assert attacked.tries > before
    attacked.check_untouched()


def test_the_fuzzer_takes_turns_and_reports_counts(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "0", "--seed", "1"],
        cwd=ROOT,
        env={"PATH": "", "TMPDIR": str(tmp_path), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "nothing broke, nothing was accepted" in outcome.stdout
    for name in TARGETS:
        assert name in outcome.stdout


def test_a_finding_ends_the_fuzzers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from tests.fuzz.__main__ import main

    def bad(_world: World) -> Callable[[], None]:
        from hypothesis import given
        from hypothesis import strategies as st

        @given(st.integers())
        def target(number: int) -> None:
            assert number < 7

        return target

    monkeypatch.setattr("tests.fuzz.__main__.TARGETS", {"bad": bad})
    outcome = CliRunner().invoke(main, ["--seconds", "1", "--seed", "1"])
    assert outcome.exit_code == 1
    assert "fault: bad, seed 1" in outcome.output
