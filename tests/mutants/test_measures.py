"""Each met requirement of the OWASP ASVS rests on something removable, whose removal a test of it would notice."""

from __future__ import annotations

import re

from tests.asvs import REQUIREMENTS
from tests.mutants.catalogue import MEASURES
from tests.support.marks import marked


def test_exactly_the_met_requirements_have_a_removable_measure() -> None:
    assert {measure.breaks for measure in MEASURES} == {name for name, each in REQUIREMENTS.items() if each.met}


def test_each_measures_test_is_marked_with_its_requirement() -> None:
    shown = {(requirement, place.rpartition("::")[2]) for requirement, place in marked("asvs")}
    noticed = {(each.breaks, re.sub(r".*::|\[.*", "", each.caught_by)) for each in MEASURES}
    assert noticed <= shown
