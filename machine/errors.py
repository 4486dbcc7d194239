"""The whole error tree. Everything Interlock raises on purpose is an :class:`InterlockError`.

InterlockError
├── TransitionRefused       the lifecycle does not allow it; nothing changed
├── InstanceNotFound        nothing of this kind has this id
│   └── SessionNotFound
├── LedgerFault             a record or the chain is not what was written
├── ReceiptMalformed        this text is no receipt
├── HeadRefused             the signed head of the chain is not good, or the log does not go with it
├── ClockBehind             the machine's clock is further behind the log than it may be
├── SurfaceError
│   ├── VersionConflict     somebody else appended first
│   ├── RecordRefused       the database refused this row; its neighbours were written
│   ├── SurfaceFailed       an I/O error happened; nothing more is acknowledged until a restart
│   ├── SurfaceLocked       another server holds this log
│   └── FileDamaged         what is there is not what SQLite or a server wrote
├── CredentialRefused       who is calling can't be established
│   ├── CredentialMissing
│   │   └── AdminCredentialMissing
│   ├── CredentialInvalid   malformed, foreign, made up, or superseded
│   │   └── AdminCredentialInvalid
│   ├── TokenExpired        was good; refresh it
│   │   └── AuthorityLost   was good when it was shown, and no more where its use would have been recorded
│   ├── SessionEnded        was good; its session has ended
│   └── SessionUnusable     is good; its session is in a state in which nobody acts under it
├── AccountError
│   ├── AccountDisabled     an administrator has closed it
│   ├── AccountExists
│   ├── PasswordWrong       not the account's current one
│   ├── PasswordRefused     breaks the password rules
│   ├── GroupsRefused       no header could carry the names of its groups
│   └── IdentityRefused     the provider vouches for them, and they have no account to use here
├── OriginRefused           the page that asks is of an origin that may not use the credential
├── NotAuthenticated        the session is anonymous, and the call needs a subject
├── LoginTooOld             the call needs a login that is more recent
├── UpstreamUnavailable     the identity provider's keys can't be had now
├── Overloaded              too much work waiting; try again later
│   └── StorageLow          the disk is nearly full: only what ends is recorded
├── RateLimited             this client or account asked too often; try again later
├── TooManyConnections      the account holds as many connections as it may
├── MessageRefused          a WebSocket message that is not part of the protocol
├── ClientRefused           a program did not show that it is a registered client
└── SettingsError           the configuration can't be used
    ├── KeyNeeded           this key may not be retired: it signs, or its tokens may be alive
    └── KeysUnavailable     the key files of a running server can't be used now
"""

from __future__ import annotations


class InterlockError(Exception):
    """Base of everything raised on purpose. ``str()`` of it holds no secret and may be shown to the caller.

    ``session_id``: the session that a refused credential names, if its signature or MAC holds.
    """

    session_id: str | None = None


class TransitionRefused(InterlockError):
    """The declaration does not allow ``event`` in ``state``; nothing changed.

    ``guard`` is the guard that failed (``not x`` where the declaration asks for x to be false), or None when the
    declaration has no such transition at all.
    """

    def __init__(self, event: str, state: str | None, guard: str | None = None) -> None:
        self.event = event
        self.state = state
        self.guard = guard
        because = f"guard {guard} failed" if guard else "no such transition is declared"
        super().__init__(f"{event} refused in state {state or '(none)'}: {because}")


class InstanceNotFound(InterlockError):
    """Nothing of ``kind`` has this id."""

    def __init__(self, kind: str, instance_id: str) -> None:
        self.kind = kind
        self.instance_id = instance_id
        super().__init__(f"{kind.capitalize()} not found")


class SessionNotFound(InstanceNotFound):
    """No session has this id."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__("session", session_id)


class LedgerFault(InterlockError):
    """The log is not what was written. ``position`` is the first record that shows it."""

    def __init__(self, position: int, fault: str) -> None:
        self.position = position
        self.fault = fault
        super().__init__(f"record {position}: {fault}")


class ReceiptMalformed(InterlockError):
    """A text that should be a receipt is none."""


class HeadRefused(InterlockError):
    """The signed head of the chain can't be relied on, or the log is not the one it was signed for."""


class ClockBehind(InterlockError):
    """The newest record is from a time that is not to come for long, by the machine's clock. The message says what to do."""


class SurfaceError(InterlockError):
    """Storage did not take the transition."""


class VersionConflict(SurfaceError):
    """The instance is no longer at the version the transition was decided on: load again, decide again."""

    def __init__(self, instance_id: str, version: int) -> None:
        self.instance_id = instance_id
        self.version = version
        super().__init__(f"version {version} of {instance_id} is already taken")


class RecordRefused(SurfaceError):
    """The database's own rules refused this record. Records of other callers in the same batch were written."""


class SurfaceFailed(SurfaceError):
    """An I/O error happened. The outcome of what was in flight is unknown until a restart reads the log again."""


class SurfaceLocked(SurfaceError):
    """Another server process has this log open."""


class FileDamaged(SurfaceError):
    """What was to be read is there, and is not what SQLite or a server wrote. Says so in words."""


class CredentialRefused(InterlockError):
    """The caller could not be identified."""


class CredentialMissing(CredentialRefused):
    """No credential was presented."""


class CredentialInvalid(CredentialRefused):
    """The credential is malformed, foreign, made up, used up, or superseded by a later login."""


class AdminCredentialMissing(CredentialMissing):
    """No administrator's secret was presented."""


class AdminCredentialInvalid(CredentialInvalid):
    """What was presented is no administrator's secret."""


class TokenExpired(CredentialRefused):
    """The token was good and has expired: refresh it."""


class AuthorityLost(TokenExpired):
    """The credential was good when it was shown. Where its use would have been recorded, its session had ended or moved on."""

    def __init__(self) -> None:
        super().__init__("the credential was superseded while this was under way")


class SessionEnded(CredentialRefused):
    """The session the credential belongs to has ended, for ``reason``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"session ended: {reason}")


class SessionUnusable(CredentialRefused):
    """The session that the credential belongs to lives, and nobody acts under it in its ``state``."""

    def __init__(self, session_id: str, state: str | None) -> None:
        self.session_id = session_id
        self.state = state
        super().__init__(f"the session can't be used while it is {state}")


class AccountError(InterlockError):
    """An account could not be made or changed."""


class AccountDisabled(AccountError):
    """An administrator has disabled the account. Only whoever has proved to be its owner is told."""


class AccountExists(AccountError):
    """The email address is taken."""


class PasswordWrong(AccountError):
    """What was given as the current password is not it. The session stays as good as it was."""


class PasswordRefused(AccountError):
    """The new password breaks a rule; the message says which."""


class GroupsRefused(AccountError):
    """A header between commas can't carry these groups as they are; the message says why."""


class IdentityRefused(AccountError):
    """Somebody else has proved who they are, but there is no account for them, or it is disabled."""


class OriginRefused(InterlockError):
    """The page that asks is of an origin that may not use the credential."""


class NotAuthenticated(InterlockError):
    """The call needs a session that somebody has logged in to."""


class UpstreamUnavailable(InterlockError):
    """The identity provider's keys can't be had, so nothing can be said of its token. ``retry_after_s`` in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("the identity provider can't be reached, or its keys can't be used")


class LoginTooOld(InterlockError):
    """The call needs somebody who proved who they are at most ``max_age_s`` seconds ago (RFC 9470)."""

    def __init__(self, max_age_s: int) -> None:
        self.max_age_s = max_age_s
        super().__init__("the session's last login is too long ago for this")


class Overloaded(InterlockError):
    """Too much work is waiting. ``retry_after_s`` is a hint in whole seconds."""

    def __init__(self, retry_after_s: int = 1, message: str = "too much work is waiting; try again later") -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StorageLow(Overloaded):
    """The disk is nearly full: only what ends is recorded."""

    def __init__(self) -> None:
        super().__init__(60, "the disk is nearly full; sessions can only be ended")


class RateLimited(InterlockError):
    """One address or account has asked too often. ``retry_after_s`` is when one more is free, in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("too many requests; try again later")


class TooManyConnections(InterlockError):
    """The account holds as many live connections as it may."""


class MessageRefused(InterlockError):
    """A WebSocket message that is not part of the protocol."""


class ClientRefused(InterlockError):
    """A program that asks for introspection or revocation did not show that it is a registered client."""


class SettingsError(InterlockError):
    """The configuration can't be used; the message names the setting."""


class KeysUnavailable(SettingsError):
    """The key files can't be used now, so no token can be made or checked."""

    def __init__(self) -> None:
        super().__init__("the key files can't be used")


class KeyNeeded(SettingsError):
    """A key may not be retired: it signs, or what it signed may be alive. The message says what to do."""
