"""The kinds of problems, as one table: exception → status, name, title, and the client's next action."""

from __future__ import annotations

from typing import Final

import msgspec

from interlock.machine import errors
from interlock.machine.closing import Recovery

__all__ = ["BY_STATUS", "KINDS", "UNKNOWN_SESSION", "ProblemKind", "Recovery", "problem_kinds"]


class ProblemKind(msgspec.Struct, frozen=True):
    """One kind of problem. ``recovery`` is the client's next action, and ``advice`` a sentence about it."""

    status: int
    name: str
    title: str
    recovery: Recovery
    advice: str


_ORIGIN_REFUSED: Final = ProblemKind(
    403,
    "origin-refused",
    "The Origin is not allowed",
    Recovery.FIX_REQUEST,
    "Call from an allowed origin; programs call without cookies.",
)

_BAD_REQUEST: Final = ProblemKind(
    400,
    "bad-request",
    "The request is malformed",
    Recovery.FIX_REQUEST,
    "Fix the request; do not retry it unchanged.",
)
_NOT_FOUND: Final = ProblemKind(404, "not-found", "Not found", Recovery.FIX_REQUEST, "Fix the URL or the id.")

KINDS: Final[dict[type[Exception], ProblemKind]] = {
    errors.OriginRefused: _ORIGIN_REFUSED,
    errors.CredentialMissing: ProblemKind(
        401, "credential-missing", "No credential", Recovery.LOG_IN, "Log in or refresh, then send the credential."
    ),
    errors.CredentialInvalid: ProblemKind(
        401,
        "credential-invalid",
        "The credential is not valid",
        Recovery.LOG_IN,
        "Discard the credential and log in; do not retry with it.",
    ),
    errors.AdminCredentialMissing: ProblemKind(
        401,
        "admin-credential-missing",
        "No administrator's secret",
        Recovery.FIX_REQUEST,
        "Send `Authorization: Bearer` with a secret made by `interlock admin-token create`.",
    ),
    errors.AdminCredentialInvalid: ProblemKind(
        401,
        "admin-credential-invalid",
        "The administrator's secret is not valid",
        Recovery.ASK_ADMINISTRATOR,
        "Get a new secret (`interlock admin-token create`); do not retry with this one.",
    ),
    errors.SubscriberCredentialMissing: ProblemKind(
        401,
        "subscriber-credential-missing",
        "No subscriber's secret",
        Recovery.FIX_REQUEST,
        "Send `Authorization: Bearer` with a secret made by `interlock subscribers create`.",
    ),
    errors.SubscriberCredentialInvalid: ProblemKind(
        401,
        "subscriber-credential-invalid",
        "The subscriber's secret is not valid",
        Recovery.ASK_ADMINISTRATOR,
        "Get a new secret (`interlock subscribers create`); do not retry with this one.",
    ),
    errors.TokenExpired: ProblemKind(
        401,
        "token-expired",
        "The access token is no longer current",
        Recovery.REFRESH,
        "POST /api/auth/refresh, then retry once.",
    ),
    errors.SessionEnded: ProblemKind(
        401, "session-ended", "The session has ended", Recovery.START_SESSION, "Start a new session; do not retry."
    ),
    errors.SessionUnusable: ProblemKind(
        403,
        "session-unusable",
        "The session can't be used now",
        Recovery.RETRY_LATER,
        "Wait until its state has changed, or log out.",
    ),
    errors.NotAuthenticated: ProblemKind(
        403, "login-required", "The session is anonymous", Recovery.LOG_IN, "POST /api/auth/login on this session."
    ),
    errors.LoginTooOld: ProblemKind(
        401,
        "login-too-old",
        "This needs a recent login",
        Recovery.LOG_IN,
        "Log in on this session, by password or by a new login at the identity provider (`max_age`), then retry once.",
    ),
    errors.TransitionRefused: ProblemKind(
        409,
        "transition-refused",
        "The lifecycle does not allow this",
        Recovery.GET_SESSION,
        "Get the current state (of your session: GET /api/session) before you ask again.",
    ),
    errors.AccountDisabled: ProblemKind(
        403,
        "account-disabled",
        "The account is disabled",
        Recovery.ASK_ADMINISTRATOR,
        "Ask an administrator; do not retry.",
    ),
    errors.AccountExists: ProblemKind(
        409, "account-exists", "The email address is taken", Recovery.ASK_USER, "Log in, or use another address."
    ),
    errors.PasswordWrong: ProblemKind(
        403, "password-wrong", "The current password is wrong", Recovery.ASK_USER, "Ask the user for it again."
    ),
    errors.PasswordRefused: ProblemKind(
        422, "password-refused", "The password breaks a rule", Recovery.ASK_USER, "Choose another password."
    ),
    errors.IdentityRefused: ProblemKind(
        403,
        "identity-refused",
        "No account for this identity",
        Recovery.ASK_ADMINISTRATOR,
        "Ask an administrator; do not retry.",
    ),
    errors.AccountError: ProblemKind(
        422, "account-refused", "The account can't be created", Recovery.FIX_REQUEST, "Fix the request."
    ),
    errors.ClientAuthenticationFailed: ProblemKind(
        401,
        "client-authentication-failed",
        "This needs a registered client",
        Recovery.FIX_REQUEST,
        "Send the name and secret of a client made by `interlock clients create`.",
    ),
    errors.IntentIdRefused: _BAD_REQUEST,
    errors.IntentUnknown: ProblemKind(
        404,
        "intent-unknown",
        "No realm has this intent",
        Recovery.FIX_REQUEST,
        "Send the name of an intent that the server's OpenAPI document lists.",
    ),
    errors.ParametersRefused: ProblemKind(
        400,
        "parameters-refused",
        "The intent's parameters are wrong",
        Recovery.FIX_REQUEST,
        "Fix the parameters that `errors` names; the intent's id is still unused.",
    ),
    errors.RoleMissing: ProblemKind(
        403,
        "role-missing",
        "The account may not submit this intent",
        Recovery.ASK_ADMINISTRATOR,
        "Ask an administrator for one of the groups that the intent needs; do not retry before.",
    ),
    errors.IntentReused: ProblemKind(
        409,
        "intent-reused",
        "The id belongs to another intent",
        Recovery.FIX_REQUEST,
        "Send a new id for a new intent; repeat an intent with the same name and parameters.",
    ),
    errors.TooManyExecutions: ProblemKind(
        429,
        "too-many-executions",
        "Too many executions have not ended",
        Recovery.RETRY_LATER,
        "Retry with the same id after the seconds in Retry-After, or cancel an execution.",
    ),
    errors.WebhookSignatureInvalid: ProblemKind(
        401,
        "signature-invalid",
        "The request is not signed by this realm",
        Recovery.FIX_REQUEST,
        "Sign id, time and body with a secret made by `interlock realm-secrets add`, now.",
    ),
    errors.OutcomeTooLate: ProblemKind(
        409,
        "outcome-too-late",
        "The attempt is not running any more",
        Recovery.FIX_REQUEST,
        "Drop the outcome; do not retry.",
    ),
    errors.ExecutionNotFound: _NOT_FOUND,
    errors.SettingsError: ProblemKind(
        503,
        "secrets-unavailable",
        "A key or a secret can't be used",
        Recovery.RETRY_LATER,
        "Retry after the seconds in Retry-After; the server has logged why.",
    ),
    errors.RateLimited: ProblemKind(
        429,
        "rate-limited",
        "Too many requests",
        Recovery.RETRY_LATER,
        "Wait the seconds in Retry-After; earlier attempts are refused too.",
    ),
    errors.Overloaded: ProblemKind(
        503, "overloaded", "Too much work is waiting", Recovery.RETRY_LATER, "Retry after the seconds in Retry-After."
    ),
    errors.IdentityProviderUnavailable: ProblemKind(
        503,
        "identity-provider-unavailable",
        "The identity provider can't be reached",
        Recovery.RETRY_LATER,
        "Retry after the seconds in Retry-After; the ID token is still unused.",
    ),
    errors.SurfaceError: ProblemKind(
        503,
        "unavailable",
        "The log accepts no writes",
        Recovery.RETRY_LATER,
        "Retry later; nothing was acknowledged.",
    ),
}

UNKNOWN_SESSION: Final = ProblemKind(
    401,
    "session-not-found",
    "Session not found",
    Recovery.START_SESSION,
    "Start a new session; the credential names one that does not exist.",
)

BY_STATUS: Final[dict[int, ProblemKind]] = {
    400: _BAD_REQUEST,
    403: _ORIGIN_REFUSED,
    404: _NOT_FOUND,
    405: ProblemKind(
        405,
        "method-not-allowed",
        "The method is not allowed here",
        Recovery.FIX_REQUEST,
        "Use a method listed in Allow.",
    ),
    408: ProblemKind(
        408,
        "request-timeout",
        "The request took too long",
        Recovery.RETRY_LATER,
        "Resend the request; it must arrive within the time limit.",
    ),
    413: ProblemKind(413, "too-large", "The body is too large", Recovery.FIX_REQUEST, "Send a smaller body."),
    415: ProblemKind(
        415,
        "unsupported-media-type",
        "Unsupported media type",
        Recovery.FIX_REQUEST,
        "Send the media type that the call accepts.",
    ),
    422: ProblemKind(
        422,
        "unprocessable",
        "The request's values contradict each other",
        Recovery.FIX_REQUEST,
        "Fix the request; do not retry it unchanged.",
    ),
    426: ProblemKind(
        426,
        "upgrade-required",
        "This is a WebSocket endpoint",
        Recovery.FIX_REQUEST,
        "Connect with a WebSocket handshake.",
    ),
    431: ProblemKind(
        431,
        "headers-too-large",
        "The request's headers are too large",
        Recovery.FIX_REQUEST,
        "Send fewer or shorter headers.",
    ),
    500: ProblemKind(
        500, "internal-error", "Internal server error", Recovery.RETRY_LATER, "Retry later; the server has logged it."
    ),
}


def problem_kinds() -> list[ProblemKind]:
    """Return every kind of problem, sorted by status and name, for the docs."""
    return sorted({*KINDS.values(), *BY_STATUS.values(), UNKNOWN_SESSION}, key=lambda kind: (kind.status, kind.name))
