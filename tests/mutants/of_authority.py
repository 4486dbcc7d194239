"""Bugs in authority: a session, an account or a secret that has lost it is still served."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace
from tests.mutants.mutant import Mutant

# The second defence: without it, a session that was left open really serves.
_ANY_ACCOUNT_SERVES: Final = at(
    "machine:ensure_serves", drop("if account.state != 'active' or epoch != account.epoch:\n    ...")
)
_SERVED: Final = "assert 200 == 401"

OF_AUTHORITY: Final[tuple[Mutant, ...]] = (
    Mutant(
        "What a session asks of itself is recorded whatever has become of it since its credential was proved.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[connect-a login]",
        at("door:Door.decide", replace("self.machine.authorise(instance, under.epoch, now_ms)", "pass")),
    ),
    Mutant(
        "What a session asks of itself is recorded whatever has become of its account.",
        "authority_at_append",
        "test_a_call_is_not_recorded_after_its_account_lost_its_rights[connect-a disable]",
        at("log:of_others", replace("under.all()", "(under,)")),
    ),
    Mutant(
        "A session's authority rests on its account at any epoch, so that a change of the password takes nothing away.",
        "authority_at_append",
        "test_a_call_is_not_recorded_after_its_account_lost_its_rights[end another session-another password]",
        at(
            "session.machine:authority_of",
            replace(
                "Authority(ACCOUNT.name, session.subject, session.account_epoch)",
                "Authority(ACCOUNT.name, session.subject)",
            ),
        ),
    ),
    Mutant(
        "A refresh token is exchanged whatever has become of its account.",
        "authority_at_append",
        "test_a_call_is_not_recorded_after_its_account_lost_its_rights[refresh-a disable]",
        at("browser_sessions:BrowserSessions._exchange", drop("under=authority_of(session).rests_on")),
    ),
    Mutant(
        "The door keeps the authority for itself, and tells the log of none.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[end another session-an end]",
        at(
            "door:_submit_once",
            replace("log.append(together, under)", "log.append(together)"),
        ),
    ),
    Mutant(
        "The log looks at authority before it has written what came before in the same batch.",
        "authority_at_append",
        "TestSqliteLog::test_of_two_sessions_ending_each_other_one_stays",
        at("log:SqliteLog._write", drop("if (each.kind, each.instance_id) in unwritten:\n    ...")),
    ),
    Mutant(
        "Whether authority holds is asked of the database, and the answer not looked at.",
        "authority_at_append",
        "TestSqliteLog::test_authority_is_judged_at_the_steps_place_in_the_log",
        at(
            "log:ensure_authorised",
            replace("connection.execute(_AUTHORISED, asked).fetchone() is None", "... and False"),
        ),
    ),
    Mutant(
        "The database does not compare the epoch, so that what a login superseded is obeyed.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[end another session-a login]",
        at("log:_AUTHORISED", in_text("epoch = coalesce(?, epoch)", "epoch >= coalesce(?, epoch)")),
    ),
    Mutant(
        "A session that is overdue is obeyed until its end is written down.",
        "authority_at_append",
        "TestSqliteLog::test_authority_is_judged_at_the_steps_place_in_the_log",
        at("log:_AUTHORISED", in_text("coalesce(deadline_ms > ?, true)", "coalesce(? > 0, true)")),
    ),
    Mutant(
        "A ticket is sold whatever has become of its session.",
        "authority_at_append",
        "TestSqliteTickets::test_no_ticket_is_issued_after_a_login_or_an_end",
        at("tickets:SqliteTickets.add", drop("ensure_authorised(...)")),
    ),
    Mutant(
        "Whether a credential is good is a matter of its session's life alone, and not of later logins.",
        "authority_at_append",
        "test_activity_by_a_superseded_credential_is_not_recorded",
        at("machine:ensure_authority", drop("if epoch is not None and epoch != session.epoch:\n    ...")),
    ),
    Mutant(
        "Activity is recorded for whoever has asked, under nobody's authority.",
        "authority_at_append",
        "test_activity_by_a_superseded_credential_is_not_recorded",
        at("sessions:Sessions.touch", drop("under=authority_of(session)")),
    ),
    Mutant(
        "Ending all other sessions asks once, at the beginning, who is calling.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[end all other sessions-a login]",
        at("account_sessions:AccountSessions.end_all", drop("under=under")),
    ),
    Mutant(
        "A socket whose session somebody else has logged in on meanwhile is connected.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[connect-a login]",
        at("connection_limits:ConnectionLimits._record", drop("under=authority_of(session)")),
    ),
    Mutant(
        "A password is changed by a session that somebody else has logged in on meanwhile.",
        "authority_at_append",
        "test_a_superseded_credentials_call_is_not_recorded_afterwards[change the password-a login]",
        at("logins:Logins.change_password", drop("under=session_machine.authority_of(session)")),
    ),
    Mutant(
        "What an administrator does to an account is recorded though the secret was removed meanwhile.",
        "authority_at_append",
        "test_an_act_is_not_recorded_after_the_removal_of_its_secret[gone-disable]",
        at("administration:Administration._ask", drop("under=under")),
    ),
    Mutant(
        "What an administrator does to a session is recorded though the secret was removed meanwhile.",
        "authority_at_append",
        "test_an_act_is_not_recorded_after_the_removal_of_its_secret[back-end a session]",
        at("administration:Administration.end", drop("under=under")),
    ),
    Mutant(
        "What a registered program revokes is recorded though its secret was removed meanwhile.",
        "authority_at_append",
        "test_a_clients_revocation_is_not_recorded_after_its_removal",
        at("oauth:revoke_token", drop("under=under")),
    ),
    Mutant(
        "The removal of a secret leaves no record.",
        "secrets_recorded",
        "test_changes_of_secrets_are_recorded_while_the_server_runs",
        at(
            "secret_records:SecretRecords._compare",
            drop("removed.append((secret_id, Remove()))"),
        ),
    ),
    Mutant(
        "A start takes work before it has looked at what became of the secrets.",
        "secrets_recorded",
        "test_a_start_records_changes_made_while_no_server_ran[killed]",
        at("wiring:open_services", drop("await patiently(secrets.records.compare)")),
    ),
    Mutant(
        "A secret that comes back is taken for the instance that was removed.",
        "removed_absorbs",
        "test_a_restored_secret_is_a_new_instance",
        at("secret_records:SecretRecords._compare", replace("new_id('sec')", "added.fingerprint"))
        + at(
            "SecretLifecycle",
            drop("final=True"),
            replace(
                "remove = Event(present.to(removed), name=...)",
                "...\nadd = Event(removed.to(present), name='The file is back.')",
            ),
        ),
        says='assert first["instance_id"] == end["instance_id"] != second["instance_id"]',
    ),
    Mutant(
        "A disable is answered when the account is closed, and leaves its sessions as they are.",
        "disabled_never_serves",
        "test_a_login_racing_a_disable_leaves_no_live_session",
        at(
            "administration:Administration.disable",
            replace("await self._without_sessions(outcome)", "EndedAccount(outcome.instance, None, 0)"),
        )
        + _ANY_ACCOUNT_SERVES,
        says='"state":"authenticated"',
    ),
    Mutant(
        "A login that was proved before its account was disabled is recorded after that.",
        "disabled_never_serves",
        "test_an_exchange_overtaken_by_a_disable_is_refused",
        at("logins:Login.record", replace("under=under", "under=None")) + _ANY_ACCOUNT_SERVES,
        says=_SERVED,
    ),
    Mutant(
        "A start lets the sessions be that a disable which was cut short has left.",
        "disabled_never_serves",
        "test_an_interrupted_disable_is_finished_by_the_next_start",
        at(
            "wiring:open_services",
            replace("await end_left_over(sessions, accounts, surface.accounts, at_once=settings.write_queue)", "0"),
        )
        + _ANY_ACCOUNT_SERVES,
        says=_SERVED,
    ),
    Mutant(
        "A deleted account is opened again by an enable.",
        "deleted_absorbs",
        "test_a_deleted_accounts_personal_data_is_gone",
        at("AccountLifecycle.deleted", drop("final=True"))
        + at("AccountLifecycle.enable", replace("disabled.to(active)", "... | deleted.to(active)")),
        says='"state":"active"',
    ),
    Mutant(
        "A session serves until its end is recorded, whatever has become of its account.",
        "disabled_never_serves",
        "test_forward_auth_refuses_a_disabled_account",
        _ANY_ACCOUNT_SERVES,
    ),
    Mutant(
        "A change of password is answered when the new one counts, and leaves the sessions of the old one open.",
        "old_password_never_admits",
        "test_a_password_change_needs_the_current_one_and_ends_other_sessions",
        at("auth:change_password", replace("await services.logins.end_others(owner)", "[]")) + _ANY_ACCOUNT_SERVES,
    ),
    Mutant(
        "A login that was proved by a password before its change is recorded after that.",
        "old_password_never_admits",
        "test_a_login_overtaken_by_a_password_change_is_refused",
        at("logins:Login.record", replace("under=under", "under=msgspec.structs.replace(under, epoch=None)")),
    ),
    Mutant(
        "A start lets the sessions be that a change of password which was cut short has left.",
        "old_password_never_admits",
        "test_an_interrupted_password_change_is_finished_by_the_next_start[1]",
        at(
            "wiring:open_services",
            replace("await end_left_over(sessions, accounts, surface.accounts, at_once=settings.write_queue)", "0"),
        )
        + _ANY_ACCOUNT_SERVES,
    ),
    Mutant(
        "A reset code can be used again.",
        "code_opens_once",
        "test_a_code_sets_another_password_once_and_ends_all_sessions",
        at(
            "account.account:evolve",
            replace(
                "{'epoch': account.epoch + 1, 'reset_code': None, 'reset_until_ms': 0}", "{'epoch': account.epoch + 1}"
            ),
        ),
    ),
    Mutant(
        "Of two changes of the same password the later one replaces what the earlier has set.",
        "overtaken_change_refused",
        "test_one_of_two_concurrent_password_changes_wins",
        at("account:_current_password", replace("data.current == account.password", "account.password"))
        + at(
            "accounts:Accounts.password_change",
            replace(
                "Change(self, owner.account_id, commands(owner.account_id, change), along, owner.account.epoch)",
                "Change(self, owner.account_id, commands(owner.account_id, change), along)",
            ),
        )
        + at(
            "session.machine:authority_of",
            replace(
                "Authority(ACCOUNT.name, session.subject, session.account_epoch)",
                "Authority(ACCOUNT.name, session.subject)",
            ),
        ),
    ),
)
