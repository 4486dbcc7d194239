"""The log events of callers: who logged in, and what was refused."""

from __future__ import annotations

from typing import Final

from interlock.server.telemetry.events.event import Event

OF_CALLERS: Final = (
    Event("login.succeeded", "info", "identity", "A user logged in.", ("method", "subject", "session_id")),
    Event(
        "login.failed",
        "warning",
        "identity",
        "A login, or a reset of the password, failed. Many of them may be guessing.",
        ("method", "account", "address", "known"),
    ),
    Event("account.registered", "info", "identity", "An account was created.", ("subject",)),
    Event("password.changed", "info", "identity", "An account has a new password.", ("subject", "session_id")),
    Event("reset_code.issued", "info", "identity", "An administrator issued a reset code.", ("subject", "actor")),
    Event("password.reset", "info", "identity", "An account has a new password, by a reset code.", ("subject",)),
    Event("password.wrong", "warning", "identity", "A password change gave a wrong current password.", ("subject",)),
    Event(
        "request.refused",
        "info",
        "refusal",
        "A request was refused: missing or invalid credential, wrong origin, malformed input, or a limit.",
        ("problem", "status", "method", "route"),
        repeats=("problem", "status"),
    ),
    Event(
        "traffic.limited",
        "warning",
        "refusal",
        "A rate limit or a cap was exceeded.",
        ("kind", "by"),
        repeats=("kind", "by"),
    ),
    Event("traffic.slow", "info", "refusal", "A request arrived too slowly and was cut.", ("part",), repeats=("part",)),
    Event(
        "traffic.unreadable",
        "info",
        "refusal",
        "The input was not valid HTTP, or was too large.",
        ("status",),
        repeats=("status",),
    ),
    Event("admin.refused", "warning", "refusal", "An unknown administrator's secret was presented.", repeats=()),
    Event("subscriber.refused", "warning", "refusal", "An unknown subscriber's secret was presented.", repeats=()),
    Event(
        "socket.refused",
        "info",
        "refusal",
        "A WebSocket was refused or closed: its credential was not valid, or a message broke the protocol.",
        ("code", "because"),
        repeats=("code", "because"),
    ),
    Event(
        "message.refused",
        "info",
        "refusal",
        "An intent or a cancel that came over a WebSocket was refused; the connection goes on.",
        ("problem", "status"),
        repeats=("problem", "status"),
    ),
    Event(
        "transition.refused",
        "info",
        "refusal",
        "The lifecycle does not allow the requested transition; nothing changed.",
        ("instance_kind", "instance_id", "instance_event", "state", "guard"),
        repeats=("instance_kind", "instance_event", "state", "guard"),
    ),
    Event(
        "session.revoked",
        "info",
        "refusal",
        "A session was revoked: logout, revocation, or new password.",
        ("session_id", "reason", "actor", "subject"),
    ),
    Event(
        "token.reused",
        "warning",
        "refusal",
        "A refresh token was presented that its holder can't have any more: there are two copies. The session was revoked.",
        ("session_id", "subject"),
    ),
    Event(
        "token.repeated",
        "info",
        "refusal",
        "A refresh token that is not the newest one was accepted: another tab, a lost response, or a copy.",
        ("session_id", "subject"),
        repeats=("session_id",),
    ),
    Event(
        "oidc.groups_left_out",
        "warning",
        "identity",
        "An ID token says that the user has too many groups to list them; the account's groups stay unchanged.",
        ("claim",),
        repeats=("claim",),
    ),
    Event("admin.call", "info", "identity", "An administrator's call was accepted.", ("actor", "method", "route")),
)
