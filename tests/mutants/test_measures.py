"""Each met requirement of the OWASP ASVS rests on something removable, whose removal a test of it would notice."""

from __future__ import annotations

import re

from tests.asvs import REQUIREMENTS
from tests.mutants.catalogue import MEASURES
from tests.support.marks import marked


def test_what_is_met_has_a_measure_that_can_be_taken_away_and_nothing_else_has() -> None:
    assert {measure.breaks for measure in MEASURES} == {name for name, each in REQUIREMENTS.items() if each.met}


def test_the_test_that_must_notice_says_that_it_shows_the_requirement() -> None:
    shown = {(requirement, place.rpartition("::")[2]) for requirement, place in marked("asvs")}
    noticed = {(each.breaks, re.sub(r".*::|\[.*", "", each.caught_by)) for each in MEASURES}
    assert noticed <= shown
