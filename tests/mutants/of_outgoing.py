"""Bugs in what this server sends to other servers, and takes from them. ``breaks`` as in :mod:`tests.mutants.of_connection`."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, replace
from tests.mutants.mutant import Mutant

OF_OUTGOING: Final[tuple[Mutant, ...]] = (
    Mutant(
        "A signed callback that was recorded on its way can be sent again at any time.",
        "Standard Webhooks 1.0.0",
        "test_a_signature_is_good_for_five_minutes",
        at("signatures:verified_id", replace("abs(...) > TOLERANCE_S", "False")),
    ),
    Mutant(
        "A signature may be as far in the future as its sender likes.",
        "Standard Webhooks 1.0.0",
        "test_a_signature_is_good_for_five_minutes",
        at("signatures:verified_id", replace("abs(now_ms // _MS_PER_S - int(at))", "now_ms // _MS_PER_S - int(at)")),
    ),
    Mutant(
        "A name that resolves into the private network is called.",
        "outgoing_networks",
        "test_no_private_address_is_connected_to",
        at("destinations:Destinations._allows", replace("scheme == 'https' and all(...)", "scheme == 'https'")),
    ),
    Mutant(
        "An IPv6 address that leads to a private IPv4 address counts as public.",
        "outgoing_networks",
        "test_no_private_address_is_connected_to",
        at("destinations:Destinations._allows", replace("_meant(address)", "[address]")),
    ),
)
