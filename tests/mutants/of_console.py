"""Bugs in the console: who gets in, and what may act."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, replace
from tests.mutants.mutant import Mutant

OF_CONSOLE: Final[tuple[Mutant, ...]] = (
    Mutant(
        "Whoever knows the password of any account looks at the console.",
        "console_act",
        "test_a_user_of_the_application_never_gets_in",
        at("operators:Groups.role", replace("False if self.look and self.look in account.groups else None", "False")),
    ),
    Mutant(
        "Who may look may also act.",
        "console_act",
        "test_who_may_look_sees_all_and_changes_nothing",
        at(
            "operators:Operators.authenticate",
            replace("Operator(session, account, may_act)", "Operator(session, account, True)"),
        ),
    ),
    Mutant(
        "Pages of the application's origins may act in the console too.",
        "console_act",
        "test_another_page_can_not_act",
        at(
            "access:own_form",
            replace(
                "refuse_foreign(Use.CALL, ...)",
                "refuse_foreign(Use.CALL, connection.scope, services_of(connection).settings.origins)",
            ),
        ),
    ),
    Mutant(
        "What is no page acts as an operator: nothing says where it comes from.",
        "console_act",
        "test_another_page_can_not_act",
        at("access:own_form", replace("not from_browser(connection.scope)", "False")),
    ),
    Mutant(
        "A live stream goes on for who is no operator any more.",
        "console_act",
        "test_the_stream_ends_with_the_operators_right",
        at("console.machine:_Watch.read", replace("self._over = True", "self._over = False")),
    ),
    Mutant(
        "An act needs no recent login.",
        "console_act",
        "test_an_act_needs_a_recent_login",
        at("access:acting", drop("ensure_recent_login(services_of(connection), operator.session)")),
    ),
    Mutant(
        "After a login the browser goes wherever the form says.",
        "console_act",
        "test_a_login_goes_on_to_pages_of_the_console_only",
        at("sign_in:_page_or_root", replace("_PAGE.match(path) and '//' not in path", "True")),
    ),
    Mutant(
        "An operator's session lasts as long as the application's.",
        "console_act",
        "test_an_operators_session_is_short_and_lasts_no_longer",
        at(
            "console.console:_policy",
            replace("round(settings.console_session_s * 1000)", "settings.policy.idle_timeout_ms"),
        ),
    ),
)
