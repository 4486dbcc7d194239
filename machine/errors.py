"""The error tree. Every error that Interlock raises on purpose is an :class:`InterlockError`.

InterlockError
├── TransitionRefused            the lifecycle does not allow it; nothing changed
├── InstanceNotFound             nothing of this kind has this id
│   ├── SessionNotFound
│   └── ExecutionNotFound
├── LedgerFault                  a record or the digest chain was changed
├── ReceiptMalformed             the text is not a receipt
├── HeadRefused                  the log's signed head is invalid, or does not match the log
├── ClockBehind                  the machine's clock is too far behind the log
├── SurfaceError
│   ├── VersionConflict          another writer appended first
│   ├── RecordRefused            the database refused this row; the rest of the batch was written
│   ├── SurfaceFailed            an I/O error happened; nothing more is acknowledged until a restart
│   ├── SurfaceLocked            another server holds this log
│   └── FileDamaged              a file is not what SQLite or a server wrote
├── CredentialRefused            the caller can't be authenticated
│   ├── CredentialMissing
│   │   ├── AdminCredentialMissing
│   │   └── SubscriberCredentialMissing
│   ├── CredentialInvalid        malformed, not issued here, forged, or superseded
│   │   ├── AdminCredentialInvalid
│   │   └── SubscriberCredentialInvalid
│   ├── TokenExpired             was valid; refresh it
│   │   └── AuthorityLost        was valid when it was presented, and superseded before the record was written
│   ├── SessionEnded             was valid; its session has ended
│   └── SessionUnusable          is valid; its session is in a state that allows no calls
├── AccountError
│   ├── AccountDisabled          an administrator has disabled it
│   ├── AccountExists
│   ├── PasswordWrong            not the account's current one
│   ├── PasswordRefused          breaks the password rules
│   ├── GroupsRefused            a header can't carry these group names
│   └── IdentityRefused          the identity is verified, but has no account here, or a disabled one
├── OriginRefused                the page's origin may not use the credential
├── NotAuthenticated             the session is anonymous, and the call needs a subject
├── LoginTooOld                  the call needs a more recent login
├── IdentityProviderUnavailable  the identity provider's keys can't be fetched now
├── Overloaded                   too much work is waiting; retry later
│   └── StorageLow               the disk is nearly full: only what ends or takes rights away is recorded
├── RateLimited                  this client or account sent too many requests; retry later
├── TooManyConnections           the account has reached its limit of connections
├── MessageRefused               a WebSocket message that is not part of the protocol
├── IntentIdRefused              an intent's id is empty, too long, or has characters that it may not have
├── IntentUnknown                no realm declares an intent of this name
├── ParametersRefused            the parameters do not fit what the intent declares
├── RoleMissing                  the account is in none of the groups that the intent asks for
├── IntentReused                 the id is that of another intent, or of the same one with other parameters
├── TooManyExecutions            too many executions have not ended yet; retry later
├── IntentFailed                 raised by a realm's code: the intent can't be done, for a reason that its owner may read
├── NestedTooDeep                executions that submit executions reach the limit of their depth
├── ResultRefused                a realm's code returned or emitted what it may not
├── AttemptClosed                the attempt came too late to commit anything
├── OutcomeTooLate               a remote realm reports the outcome of an attempt that does not run any more
├── WebhookSignatureInvalid      a request that must be signed is not, or its time is too far off
├── ClientAuthenticationFailed   a program did not authenticate as a registered client
└── SettingsError                the configuration can't be used
    ├── RealmInvalid             a realm or one of its intents is declared wrongly, or can't be loaded
    ├── KeyInUse                 this key may not be retired: it signs, or its tokens may be valid
    └── KeysUnavailable          the key files of a running server can't be used now
"""

from __future__ import annotations

from typing import Literal


class InterlockError(Exception):
    """Base class of all errors raised on purpose. ``str()`` of it contains no secret and may be shown to the caller.

    ``session_id`` is the session that a refused credential names, if its signature or MAC is valid.
    """

    session_id: str | None = None


class TransitionRefused(InterlockError):
    """The declaration does not allow ``event`` in ``state``; nothing changed.

    ``guard`` is the guard that failed, ``not x`` if the declaration requires x to be false. It is None if the declaration has
    no such transition.
    """

    def __init__(self, event: str, state: str | None, guard: str | None = None) -> None:
        self.event = event
        self.state = state
        self.guard = guard
        because = f"guard {guard} failed" if guard else "no such transition is declared"
        super().__init__(f"{event} refused in state {state or '(none)'}: {because}")


class InstanceNotFound(InterlockError):
    """Nothing of ``kind`` has this id. ``where`` ends the message."""

    def __init__(self, kind: str, instance_id: str, where: str = "") -> None:
        self.kind = kind
        self.instance_id = instance_id
        super().__init__(f"{kind.capitalize()} not found{where}")


class SessionNotFound(InstanceNotFound):
    """No session has this id."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__("session", session_id)


class ExecutionNotFound(InstanceNotFound):
    """No execution has this id."""

    def __init__(self, execution_id: str) -> None:
        super().__init__("execution", execution_id)


class LedgerFault(InterlockError):
    """The log was changed after it was written. ``position`` is the first record that shows it; ``fault`` describes it."""

    def __init__(self, position: int, fault: str) -> None:
        self.position = position
        self.fault = fault
        super().__init__(f"record {position}: {fault}")


class ReceiptMalformed(InterlockError):
    """The text is not a receipt."""


class HeadRefused(InterlockError):
    """The log's signed head is invalid, or does not match the log."""


class ClockBehind(InterlockError):
    """The newest record lies too far in the future of the machine's clock. The message says what to do."""


class SurfaceError(InterlockError):
    """Storage did not record the transition."""


class VersionConflict(SurfaceError):
    """The instance is no longer at the version on which the transition was decided. Load it and decide again."""

    def __init__(self, instance_id: str, version: int) -> None:
        self.instance_id = instance_id
        self.version = version
        super().__init__(f"version {version} of {instance_id} is already taken")


class RecordRefused(SurfaceError):
    """The database's triggers or constraints refused this record. Records of other callers in the same batch were written."""


class SurfaceFailed(SurfaceError):
    """An I/O error happened. The outcome of pending writes is unknown until a restart reads the log."""


class SurfaceLocked(SurfaceError):
    """Another server process has this log open."""


class FileDamaged(SurfaceError):
    """A file exists, but is not what SQLite or a server wrote. The message describes the damage."""


class CredentialRefused(InterlockError):
    """The caller can't be authenticated."""


class CredentialMissing(CredentialRefused):
    """No credential was presented."""


class CredentialInvalid(CredentialRefused):
    """The credential is malformed, not issued here, forged, already used, or superseded by a later login."""


class AdminCredentialMissing(CredentialMissing):
    """No administrator's secret was presented."""


class AdminCredentialInvalid(CredentialInvalid):
    """The presented secret is not an administrator's."""


class SubscriberCredentialMissing(CredentialMissing):
    """No subscriber's secret was presented."""


class SubscriberCredentialInvalid(CredentialInvalid):
    """The presented secret is not a subscriber's."""


class TokenExpired(CredentialRefused):
    """The token was valid and has expired: refresh it."""


class AuthorityLost(TokenExpired):
    """The credential was valid when it was presented. Before the record was written, its session ended or superseded it."""

    def __init__(self) -> None:
        super().__init__("the credential was superseded while the request was processed")


class SessionEnded(CredentialRefused):
    """The credential's session has ended. ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"session ended: {reason}")


class SessionUnusable(CredentialRefused):
    """The credential's session is alive, but its ``state`` allows no calls."""

    def __init__(self, session_id: str, state: str | None) -> None:
        self.session_id = session_id
        self.state = state
        super().__init__(f"the session can't be used while it is {state}")


class AccountError(InterlockError):
    """An account could not be created or changed."""


class AccountDisabled(AccountError):
    """An administrator has disabled the account. Only its authenticated owner may see this error."""


class AccountExists(AccountError):
    """The email address is taken."""


class PasswordWrong(AccountError):
    """The given current password is wrong. The session stays valid."""


class PasswordRefused(AccountError):
    """The new password breaks a rule; the message says which."""


class GroupsRefused(AccountError):
    """A comma-separated header can't carry these group names; the message says why."""


class IdentityRefused(AccountError):
    """The identity is verified, but has no account here, or its account is disabled."""


class OriginRefused(InterlockError):
    """The page's origin may not use the credential."""


class NotAuthenticated(InterlockError):
    """The call needs an authenticated session."""


class IdentityProviderUnavailable(InterlockError):
    """The identity provider's keys can't be fetched, so its token can't be verified. ``retry_after_s`` is in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("the identity provider can't be reached, or its keys can't be used")


class LoginTooOld(InterlockError):
    """The call needs a login at most ``max_age_s`` seconds ago (RFC 9470)."""

    def __init__(self, max_age_s: int) -> None:
        self.max_age_s = max_age_s
        super().__init__("the session's last login is too long ago for this")


class Overloaded(InterlockError):
    """Too much work is waiting. ``retry_after_s`` is a hint in whole seconds."""

    def __init__(self, retry_after_s: int = 1, message: str = "too much work is waiting; try again later") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StorageLow(Overloaded):
    """The disk is nearly full. Only transitions that end something or take rights away are recorded."""

    def __init__(self) -> None:
        super().__init__(60, "the disk is nearly full; sessions can only be ended")


class RateLimited(InterlockError):
    """An address or account sent too many requests. The next one is allowed after ``retry_after_s`` whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("too many requests; try again later")


class TooManyConnections(InterlockError):
    """The account has reached its limit of live connections."""


class MessageRefused(InterlockError):
    """A WebSocket message that is not part of the protocol."""


class IntentIdRefused(InterlockError):
    """The id that a client gave its intent is not allowed; the message says what is."""


class IntentUnknown(InterlockError):
    """No realm declares an intent of this name. The message does not repeat the name, which the client chose."""

    def __init__(self) -> None:
        super().__init__("no realm declares an intent of this name")


class ParametersRefused(InterlockError):
    """The parameters do not fit what the intent declares.

    ``field`` is the path of the wrong one, such as ``items[...].text``, or empty for the parameters as a whole. ``problem``
    says what is wrong with it. Neither repeats what the client sent.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else f"the parameters: {problem}")


class RoleMissing(InterlockError):
    """The account is in none of the groups that the intent ``name`` asks for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the account's groups do not allow {name}")


class IntentReused(InterlockError):
    """The subject has used this intent id for another intent, or for the same one with other parameters."""

    def __init__(self) -> None:
        super().__init__("the id belongs to another intent, or to this one with other parameters")


class TooManyExecutions(InterlockError):
    """As many executions as allowed have not ended yet. ``retry_after_s`` is a hint in whole seconds."""

    def __init__(self, whose: Literal["session", "account", "realm"], retry_after_s: int = 1) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"the {whose} has too many executions that have not ended; try again later")


class IntentFailed(InterlockError):
    """The intent can't be done. A realm's code raises it; the text is the execution's error, which the owner may read."""


class NestedTooDeep(InterlockError):
    """An execution may not submit another: the chain of executions that each submitted the next has reached its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"executions may submit executions in chains of at most {limit}")


class ResultRefused(InterlockError):
    """A realm's code returned or emitted a value that is not declared, no JSON or too large; the message says what."""


class AttemptClosed(InterlockError):
    """The attempt may not commit: its execution has ended or another attempt has replaced it."""

    def __init__(self) -> None:
        super().__init__("this attempt may not commit: its execution has ended or another attempt has replaced it")


class OutcomeTooLate(InterlockError):
    """A remote realm reports the outcome of an attempt that is not running: nothing was recorded."""

    def __init__(self, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of this execution is not running: its outcome was not recorded")


class WebhookSignatureInvalid(InterlockError):
    """A request that must be signed (Standard Webhooks) is not signed with a valid secret, or not at this time."""


class ClientAuthenticationFailed(InterlockError):
    """A caller of introspection or revocation did not authenticate as a registered client."""


class SettingsError(InterlockError):
    """The configuration can't be used; the message names the setting."""


class RealmInvalid(SettingsError):
    """A realm or one of its intents is declared wrongly, or can't be loaded; the message says what to change."""


class KeysUnavailable(SettingsError):
    """The key files can't be used now, so no token can be issued or verified."""

    def __init__(self) -> None:
        super().__init__("the key files can't be used")


class KeyInUse(SettingsError):
    """The key may not be retired: it signs, or its tokens may be valid. The message says what to do."""
