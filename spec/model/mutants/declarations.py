"""Seeded bugs of the declarations. Each changes the text of one, and is to be caught by a check and its property."""

from __future__ import annotations

from typing import Final

from interlock.spec.model.mutants.programs import Mutant

ONE_DROP: Final = {"DROPS": 1}
"""Bounds for a bug that one vanished peer shows."""

_GUARDED: Final = ' = Event(\n        active.to(active, internal=True, cond="current_password")'
_OF_CODE: Final = (
    '        """The command names the code that was issued last, which is not used up and whose time is not over."""\n'
    "        ...\n"
)
_UNGUARDED: Final = _GUARDED.replace(', cond="current_password"', "")
_SUCCEED: Final = 'succeed = Event(running.to(succeeded, cond="owner")'
_FAIL: Final = '| accepted.to(failed, cond="owner")'
_REPEAT: Final = 'running.to(accepted, cond=["owner", "repeatable"])'

DECLARATION_MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "connect_from_created",
        "An anonymous session may connect.",
        "lifecycle",
        "authentication_first",
        (
            (
                "authenticated.to(connected, cond=",
                "created.to(connected, cond='alive') | authenticated.to(connected, cond=",
            ),
        ),
    ),
    Mutant(
        "expired_leaves",
        "An ended session can be logged in to.",
        "lifecycle",
        "expired_absorbs",
        (
            ('follows.", final=True)', 'follows.")'),
            (
                'created.to(authenticated, cond="alive"),',
                'created.to(authenticated, cond="alive") | expired.to(authenticated),',
            ),
        ),
    ),
    Mutant(
        "revoked_lives_on",
        "A revoked session whose deadlines are still ahead is renewed like a living one.",
        "lifecycle",
        "expired_absorbs",
        (
            ('follows.", final=True)', 'follows.")'),
            (
                'created.to(created, internal=True, cond="alive")\n',
                'expired.to(created, cond="alive") | created.to(created, internal=True, cond="alive")\n',
            ),
        ),
    ),
    Mutant(
        "last_connection_ignored",
        "A disconnect never leads back to authenticated.",
        "lifecycle",
        "owner_coherence",
        ((', unless="last_connection")', ")"),),
        ONE_DROP,
    ),
    Mutant(
        "any_disconnect_is_the_last",
        "A disconnect leads back to authenticated while another socket is open.",
        "lifecycle",
        "owner_coherence",
        (
            (
                'connected.to(connected, internal=True, cond="known_connection", unless="last_connection")',
                'connected.to(authenticated, cond="known_connection", unless="last_connection")',
            ),
        ),
        ONE_DROP,
    ),
    Mutant(
        "expires_while_alive",
        "A session can be expired before its deadline.",
        "lifecycle",
        "no_early_expiry",
        (('| connected.to(expired, unless="alive")', "| connected.to(expired)"),),
    ),
    Mutant(
        "touch_revives",
        "Activity renews a session whose deadline has passed.",
        "lifecycle",
        "no_early_expiry",
        (
            (
                '| authenticated.to(authenticated, internal=True, cond="alive")',
                "| authenticated.to(authenticated, internal=True)",
            ),
        ),
    ),
    Mutant(
        "old_token_refreshes",
        "Any refresh token is exchanged.",
        "theft",
        "rotation",
        (
            (
                '| authenticated.to(authenticated, internal=True, cond=["alive", "rotation_honoured"])',
                '| authenticated.to(authenticated, internal=True, cond=["alive"])',
            ),
        ),
    ),
    Mutant(
        "old_token_refreshes_anonymously",
        "Any refresh token of an anonymous session is exchanged.",
        "lifecycle",
        "rotation",
        (
            (
                'created.to(created, internal=True, cond=["alive", "rotation_honoured"])',
                'created.to(created, internal=True, cond="alive")',
            ),
        ),
    ),
    Mutant(
        "connects_when_overdue",
        "A session whose deadline has passed may connect.",
        "lifecycle",
        "no_early_expiry",
        (
            (
                'authenticated.to(connected, cond=["alive", "below_connection_limit"])',
                'authenticated.to(connected, cond="below_connection_limit")',
            ),
        ),
    ),
    Mutant(
        "never_expires",
        "A connected session has no expiry.",
        "expires_or_renewed",
        "expires_or_renewed",
        (('\n        | connected.to(expired, unless="alive")', ""),),
    ),
    Mutant(
        "deleted_leaves",
        "A deleted account can be enabled again.",
        "account",
        "deleted_absorbs",
        (
            ('follows.", final=True)', 'follows.")'),
            ("disabled.to(active),", "disabled.to(active) | deleted.to(active),"),
        ),
        declaration="account.py",
    ),
    Mutant(
        "change_of_any_password",
        "A change of password does not name the password that it replaces.",
        "account",
        "overtaken_change_refused",
        (("change_password" + _GUARDED, "change_password" + _UNGUARDED),),
        declaration="account.py",
    ),
    Mutant(
        "reset_with_any_code",
        "A reset of the password does not name the code that counts.",
        "account",
        "code_opens_once",
        (
            (
                'active.to(active, internal=True, cond="reset_code"),\n',
                "active.to(active, internal=True),\n",
            ),
            ("    def reset_code(self) -> bool:\n", ""),
            (_OF_CODE, ""),
        ),
        declaration="account.py",
    ),
    Mutant(
        "rehash_of_any_password",
        "A new hash of an old password replaces a new password.",
        "account",
        "old_password_never_admits",
        (("rehash" + _GUARDED, "rehash" + _UNGUARDED),),
        declaration="account.py",
    ),
    Mutant(
        "removed_leaves",
        "A secret that is removed can be removed once more.",
        "secret",
        "removed_absorbs",
        (
            ('follows.", final=True)', 'follows.")'),
            ("present.to(removed),", "present.to(removed) | removed.to(removed, internal=True),"),
        ),
        declaration="secret.py",
    ),
    Mutant(
        "success_of_any_attempt",
        "A result is taken from whatever attempt has it.",
        "execution",
        "owner_only",
        ((_SUCCEED, _SUCCEED.replace(', cond="owner"', "")),),
        declaration="execution.py",
    ),
    Mutant(
        "failure_of_any_attempt",
        "An attempt that was interrupted fails the execution while it waits to be repeated.",
        "execution",
        "owner_only",
        ((_FAIL, _FAIL.replace(', cond="owner"', "")),),
        declaration="execution.py",
    ),
    Mutant(
        "interruption_of_any_attempt",
        "An attempt that was given up interrupts the one that runs.",
        "execution",
        "owner_only",
        ((_REPEAT, _REPEAT.replace('"owner", ', "")),),
        # The attempt that runs, the second one, must be one that may be repeated.
        bounds={"ATTEMPTS": 3},
        declaration="execution.py",
    ),
    Mutant(
        "once_repeated",
        "A crash repeats an execution whatever its effects are.",
        "execution",
        "once_runs_once",
        ((_REPEAT, _REPEAT.replace(', "repeatable"', "")),),
        declaration="execution.py",
    ),
    Mutant(
        "cancelled_fails",
        "An execution that is cancelled can fail afterwards.",
        "execution",
        "one_outcome",
        (
            ('outcome of its own; nothing follows.", final=True)', 'outcome of its own; nothing follows.")'),
            (_FAIL, _FAIL + " | cancelled.to(failed)"),
        ),
        declaration="execution.py",
    ),
)
