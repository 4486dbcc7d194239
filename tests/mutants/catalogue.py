"""Every mutant there is. A property that real code can break has at least one here."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant
from tests.mutants.of_machine import OF_MACHINE
from tests.mutants.of_server import OF_SERVER

MUTANTS: Final[tuple[Mutant, ...]] = (*OF_MACHINE, *OF_SERVER)
