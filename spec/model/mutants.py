"""Seeded bugs, each with the check and the property that must catch it. A bug that survives is a gap in the specification.

Mutants of a declaration change its text. Mutants of the model turn one safety measure off. Mutants of the real code are in
``tests/mutants/``.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Final

import msgspec

from interlock.spec.model.checks import CHECKS, Check
from interlock.spec.model.spin import Program, relation
from interlock.spec.promela import promela
from interlock.spec.transitions import Lifecycle, read

_QUIET: Final = {"DECISIONS": 4, "CRASHES": 0, "DROPS": 0}
_ONE_DROP: Final = {"DROPS": 1}
_FEW: Final = {"ROTATIONS": 4}
_TWO_TABS: Final = {"ROTATIONS": 4, "TABS": 2}
_NO_LOGIN: Final = {"EPOCHS": 0}
_ONE_COPY: Final = {"EPOCHS": 0, "ROTATIONS": 3}
_GUARDED: Final = ' = Event(\n        active.to(active, internal=True, cond="current_password")'
_UNGUARDED: Final = _GUARDED.replace(', cond="current_password"', "")
_DECLARATIONS: Final = Path(__file__).parents[1]


class Mutant(msgspec.Struct, frozen=True):
    """One bug. ``edits`` are (old, new) texts of ``declaration``; if empty, ``MUTANT_<name>`` is a switch of the model.

    ``bounds`` replace those of the check. A story is searched by its shortest way, and smaller bounds make that fast.
    """

    name: str
    bug: str
    check: str
    promise: str
    edits: tuple[tuple[str, str], ...] = ()
    bounds: dict[str, int] = {}
    declaration: str = "session.py"

    def kind(self) -> str:
        """Return where the bug is: ``declaration`` or ``model``."""
        return "declaration" if self.edits else "model"


MUTANTS: Final[tuple[Mutant, ...]] = (
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
        _ONE_DROP,
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
        _ONE_DROP,
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
        "change_while_disabled",
        "The password of a disabled account can be changed.",
        "account",
        "disabled_never_serves",
        (
            (
                "change_password" + _GUARDED,
                "change_password" + _GUARDED + ' | disabled.to(disabled, internal=True, cond="current_password")',
            ),
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
    Mutant("ack_before_append", "A command is acknowledged when it is decided.", "lifecycle", "acknowledged_logged"),
    Mutant("no_version_check", "A node appends whatever the log holds by then.", "lifecycle", "no_lost_update"),
    Mutant("no_command_index", "A repeated command is recorded again.", "lifecycle", "command_once"),
    Mutant("target_by_hand", "The door writes a target of its own.", "lifecycle", "declared_only"),
    Mutant("open_before_append", "A socket opens before its connect is recorded.", "lifecycle", "open_guard"),
    Mutant(
        "disconnect_before_close",
        "A connection is given up while its socket is open.",
        "lifecycle",
        "open_guard",
        bounds=_ONE_DROP,
    ),
    Mutant("connection_ids_reused", "Two connects name the same connection.", "lifecycle", "single_owner"),
    Mutant("lagging_reader", "A node reads the log from a copy that lags.", "lifecycle", "view_monotonic"),
    Mutant("publish_after_ack", "The caller hears of the end before the sockets do.", "lifecycle", "revocation_fence"),
    Mutant("no_fence", "An intent is checked against the node's view, not the log.", "lifecycle", "revocation_fence"),
    Mutant("stale_cache", "A node takes the log's version and keeps its old session.", "replay", "cache_is_fold"),
    Mutant("projection_forgets", "The projection row misses what a record says.", "replay", "replay_equals_state"),
    Mutant(
        "edge_triggered_close",
        "Only the node that ends a session closes its sockets.",
        "expired_closes",
        "expired_closes",
    ),
    Mutant("no_reaper", "A start leaves the connections of its former self.", "orphan_reaped", "orphan_reaped"),
    Mutant("no_expirer", "Nobody writes down that a deadline has passed.", "expires_or_renewed", "expires_or_renewed"),
    Mutant("no_follow", "A node does not hear of the others' records.", "views_catch_up", "views_catch_up"),
    Mutant("no_recovery", "A crashed node stays away.", "crashed_recovers", "crashed_recovers"),
    Mutant("refusal_unanswered", "A refused command gets no answer.", "command_answered", "command_answered"),
    Mutant(
        "login_unconditional",
        "A login is recorded whatever became of the account since the password was compared.",
        "account",
        "authority_at_append",
    ),
    Mutant(
        "call_of_an_ended_session",
        "What a session asked is recorded though it has ended meanwhile.",
        "account",
        "authority_at_append",
    ),
    Mutant(
        "call_of_a_renewed_session",
        "What a session asked is recorded though a change of the password has renewed it meanwhile.",
        "account",
        "authority_at_append",
    ),
    Mutant("epoch_kept_by_disable", "A disable does not raise the epoch.", "account", "authority_at_append"),
    Mutant("epoch_kept_by_change", "A change of password does not raise the epoch.", "account", "authority_at_append"),
    Mutant("groups_enable", "An account whose groups are set is active again.", "account", "declared_only"),
    Mutant(
        "disable_told_first", "A disable is acknowledged before it is recorded.", "account", "disabled_never_serves"
    ),
    Mutant(
        "ends_before_record",
        "A disable ends the sessions first, and is recorded then.",
        "account",
        "disabled_never_serves",
    ),
    Mutant("start_ends_nobody", "A start leaves the ends that a crash cut off.", "account", "disabled_never_serves"),
    Mutant(
        "repeat_told_at_once",
        "A second disable is acknowledged while the first still ends sessions.",
        "account",
        "disabled_never_serves",
    ),
    Mutant("enable_restores", "An enable restores the sessions of before.", "account", "disabled_never_serves"),
    Mutant("delete_ends_nobody", "A delete leaves the account's sessions.", "account", "disabled_never_serves"),
    Mutant(
        "change_ends_nobody",
        "A change of password leaves the account's other sessions.",
        "account",
        "old_password_never_admits",
    ),
    Mutant(
        "old_instance_again",
        "A secret that comes back goes on as the instance that it was.",
        "secret",
        "declared_only",
    ),
    Mutant("removal_unrecorded", "The removal of a file leaves no record.", "secret", "secrets_recorded"),
    Mutant(
        "start_records_nothing",
        "A start takes work without a look at what changed while no server ran.",
        "secret",
        "secrets_recorded",
    ),
    Mutant(
        "act_unconditional",
        "An act is recorded whatever became of the secret since it was shown.",
        "secret",
        "authority_at_append",
    ),
    Mutant(
        "act_of_another_life",
        "An act is recorded because the secret is back, though it was removed meanwhile.",
        "secret",
        "authority_at_append",
    ),
    Mutant("epoch_ignored", "A refresh token survives a login.", "theft", "rotation"),
    Mutant("no_grace", "A token that was exchanged is taken for stolen at once.", "rotation", "rotation", bounds=_FEW),
    Mutant("one_before", "The grace is the token's before the newest one alone.", "rotation", "rotation", bounds=_FEW),
    Mutant(
        "lost_answer_is_theft",
        "After the grace a token is taken for stolen, though no answer to it was used.",
        "rotation",
        "rotation",
        bounds=_FEW,
    ),
    Mutant(
        "late_answer_is_theft",
        "A token whose answer comes after a newer one was used is taken for stolen.",
        "rotation",
        "rotation",
        bounds=_TWO_TABS,
    ),
    Mutant(
        "used_is_gone",
        "A token that was used is taken for gone from the jar when a newer one is, though it may have come later.",
        "rotation",
        "rotation",
        bounds=_TWO_TABS,
    ),
    Mutant("old_rotation_accepted", "Any older token is answered.", "theft", "rotation", bounds=_NO_LOGIN),
    Mutant("copy_kept", "A newer token stays when an older one is used.", "theft", "rotation", bounds=_ONE_COPY),
    Mutant("same_answer_again", "A repeat is given the newest token once more.", "theft", "rotation", bounds=_NO_LOGIN),
    Mutant(
        "ack_before_sync",
        "A command is acknowledged when it is written, not when it is synced.",
        "durability",
        "durability",
    ),
    Mutant("no_fail_stop", "After a failed fsync the server goes on acknowledging.", "durability", "durability"),
    Mutant(
        "start_without_checkpoint",
        "A start believes what it reads without writing it again.",
        "durability",
        "durability",
    ),
    Mutant("no_commit_mark", "Half a batch counts after a power cut.", "durability", "durability"),
    Mutant("head_before_sync", "The signed head runs ahead of the disk.", "durability", "durability"),
)


def program(mutant: Mutant) -> tuple[Check, Program]:
    """Return the check that must catch ``mutant``, and its model with the bug.

    Raises:
        ValueError: the declaration no longer holds the text that the mutant changes.
    """
    check = next(check for check in CHECKS if check.name == mutant.check)
    smaller = {**(_QUIET if check.name in {"lifecycle", "replay"} else {}), **mutant.bounds}
    bounds = tuple(msgspec.structs.replace(b, quick=smaller.get(b.name, b.quick)) for b in check.bounds)
    defines = tuple(msgspec.structs.replace(check, bounds=bounds).defines(deep=False))
    if not mutant.edits:
        return check, Program(check.model, (*defines, f"MUTANT_{mutant.name}"), check.claim)
    lifecycle = mutated(mutant)
    return check, Program(check.model, defines, check.claim, {relation(lifecycle): promela(lifecycle)})


def mutated(mutant: Mutant) -> Lifecycle:
    """Return the declaration with the mutant's edits.

    Raises:
        ValueError: an edit's old text does not occur exactly once.
    """
    source = (_DECLARATIONS / mutant.declaration).read_text(encoding="utf-8")
    for old, new in mutant.edits:
        if source.count(old) != 1:
            raise ValueError(f"mutant {mutant.name}: {old!r} is in {mutant.declaration} {source.count(old)} times")
        source = source.replace(old, new)
    module = types.ModuleType(f"mutant_{mutant.name}")
    exec(compile(source, f"{mutant.name}.py", "exec"), module.__dict__)  # noqa: S102  # our own declaration, one edit apart
    name = mutant.declaration.removesuffix(".py").capitalize()
    return read(getattr(module, f"{name}Lifecycle"), getattr(module, f"{name}Guards"))
