"""Each requirement of the OWASP ASVS that is met rests on something that can be taken away, and a test of it would notice."""

from __future__ import annotations

import re

import pytest

from tests.asvs import REQUIREMENTS
from tests.mutants.catalogue import MEASURES
from tests.mutants.mutant import Mutant, edited
from tests.mutants.trial import ROOT
from tests.support.marks import marked

SHOWN = {(requirement, re.split("::", place)[-1]) for requirement, place in marked("asvs")}


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_a_measure_can_still_be_taken_away_from_what_a_test_of_its_requirement_looks_at(measure: Mutant) -> None:
    assert measure.file.startswith(("server/", "machine/", "spec/", "docs/")), "what is used or read, not a test"
    text = (ROOT / measure.file).read_text(encoding="utf-8")
    assert edited(measure, text) != text
    file, *_, test = measure.caught_by.partition("[")[0].split("::")
    assert (ROOT / file).is_file()
    assert (measure.breaks, test) in SHOWN, "the test that must notice says that it shows the requirement"
    assert measure.says


def test_what_is_met_has_a_measure_that_can_be_taken_away_and_nothing_else_has() -> None:
    assert {measure.breaks for measure in MEASURES} == {name for name, each in REQUIREMENTS.items() if each.met}


def test_names_are_unique_and_what_is_taken_away_is_a_sentence() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert all(re.fullmatch(r"[a-z0-9-]+", measure.name) for measure in MEASURES)
    assert all(measure.bug.endswith(".") for measure in MEASURES)
