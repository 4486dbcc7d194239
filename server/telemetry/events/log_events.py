"""Every log event: its level, its fields, and its meaning.

Every call such as ``_log.warning("login.failed", method="password")`` must be a row here: same level, no other fields. A
test compares all calls in the source. So the log has a fixed vocabulary, and the page that documents it is generated.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from interlock.server.telemetry.events.fields import CONTEXT, FIELDS

__all__ = ["CONTEXT", "EVENTS", "FIELDS", "GROUPS", "Event", "Group", "Level"]

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Group: TypeAlias = Literal["identity", "refusal", "fault", "life"]

GROUPS: Final[dict[Group, str]] = {
    "identity": "Authentication, successful and failed (ASVS 16.3.1)",
    "refusal": "Refused requests and revoked sessions (ASVS 16.3.2, 16.3.3)",
    "fault": "Faults of the server (ASVS 16.3.4)",
    "life": "Normal operation; each request, if the setting `access_log` is on",
}


class Event(msgspec.Struct, frozen=True):
    """One row. ``fields`` are keys of FIELDS; those of CONTEXT need not be listed.

    ``repeats``: a client may cause this event any number of times. Of events with the same ``client`` (for a fault: the
    same place in the code) and the same values of these fields, the first has a line, and the others are counted
    (:mod:`interlock.server.telemetry.repeats`). None: each event has its own line.
    """

    name: str
    level: Level
    group: Group
    about: str
    fields: tuple[str, ...] = ()
    repeats: tuple[str, ...] | None = None


_ROWS: Final = (
    Event("login.succeeded", "info", "identity", "A user logged in.", ("method", "subject", "session_id")),
    Event(
        "login.failed",
        "warning",
        "identity",
        "A login failed. Many of them may be password guessing.",
        ("method", "account", "address", "known"),
    ),
    Event("account.registered", "info", "identity", "An account was created.", ("subject",)),
    Event("password.changed", "info", "identity", "An account has a new password.", ("subject", "session_id")),
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
        "http.failed",
        "error",
        "fault",
        "A request was answered with 5xx. With `traceback`, a fault of the server is the cause.",
        ("problem", "status", "method", "route", "error", "because", "traceback"),
        repeats=("problem", "status", "route", "error"),
    ),
    Event(
        "http.broken",
        "error",
        "fault",
        "A request got no response because of a fault of the server.",
        ("traceback",),
        repeats=(),
    ),
    Event("socket.failed", "error", "fault", "A fault of the server ended a WebSocket.", ("traceback",), repeats=()),
    Event(
        "message.failed",
        "error",
        "fault",
        "A fault of the server refused an intent or a cancel that came over a WebSocket.",
        ("traceback",),
        repeats=(),
    ),
    Event(
        "execution.outcome_unsent",
        "error",
        "fault",
        "The log has stopped, so the WebSockets of a session did not get an outcome.",
        ("because",),
        repeats=("because",),
    ),
    Event(
        "background.failed",
        "critical",
        "fault",
        "A background task failed or ended. It is restarted; `/health/ready` answers 503 until half a minute after the last"
        " failure.",
        ("work", "traceback"),
        repeats=("work",),
    ),
    Event(
        "background.stuck",
        "critical",
        "fault",
        "A background task has made no progress for half a minute; `/health/ready` answers 503 until it does.",
        ("work", "silent_s"),
    ),
    Event(
        "listener.failed",
        "error",
        "fault",
        "A listener failed at a transition. The other listeners were called; a connection whose listener failed was dropped.",
        ("listener", "traceback"),
        repeats=("listener",),
    ),
    Event(
        "task.failed", "error", "fault", "A fault outside any request.", ("task", "because", "traceback"), repeats=()
    ),
    Event("server.failed", "critical", "fault", "A fault ended the server.", ("traceback",)),
    Event(
        "log.dropped",
        "error",
        "fault",
        "Log lines were dropped because standard error was blocked. It now accepts lines again.",
        ("dropped",),
    ),
    Event(
        "feed.failed",
        "critical",
        "fault",
        "Memory could not follow the log: `surface.failed` comes next.",
        ("traceback",),
    ),
    Event(
        "surface.failed", "critical", "fault", "The log stopped; nothing is acknowledged until a restart.", ("failure",)
    ),
    Event(
        "keys.unusable",
        "error",
        "fault",
        "The key files can't be used: calls that need a credential are answered 503 until they can.",
        ("problem",),
    ),
    Event("keys.usable", "info", "fault", "The key files can be used again."),
    Event(
        "keys.ignored",
        "error",
        "fault",
        "A new key's file can't be used: that key is ignored, and the next start will be refused.",
        ("problem",),
    ),
    Event(
        "keys.lifetimes_not_written",
        "warning",
        "fault",
        "The token lifetimes could not be written to `lifetimes.json` for the command line.",
        ("path", "error"),
    ),
    Event(
        "files.unchecked",
        "warning",
        "fault",
        "A file could not be checked, or a folder not be listed, for lack of descriptors or memory; logged once. The last known"
        " state is used for 30 seconds, and the known files of a folder for as long as they can be checked.",
        ("path", "error"),
    ),
    Event(
        "descriptors.limited",
        "warning",
        "fault",
        "The limit of open files is too low for the setting `tcp_total`, so fewer connections are accepted.",
        ("tcp_total", "open_files"),
    ),
    Event(
        "proxy.untrusted",
        "warning",
        "fault",
        "A request came with the header of `forwarded_header` from an address that is not in `trusted_proxies`. If that is your"
        " proxy, all its clients count as one address: add it. If not, put a proxy in front. Logged once for each address.",
        ("address", "header"),
    ),
    Event(
        "server.exposed",
        "warning",
        "fault",
        "The server listens for other machines in plain HTTP, and `trusted_proxies` names no proxy that terminates TLS.",
        ("host",),
    ),
    Event("oidc.keys_unavailable", "warning", "fault", "The identity provider's keys can't be fetched.", ("because",)),
    Event(
        "oidc.groups_left_out",
        "warning",
        "identity",
        "An ID token says that the user has too many groups to list them; the account's groups stay unchanged.",
        ("claim",),
        repeats=("claim",),
    ),
    Event(
        "head.replaced",
        "warning",
        "fault",
        "The setting `new_head` is on: the log was not compared with its head, and gets a new one.",
        ("path", "records"),
    ),
    Event(
        "head.behind",
        "warning",
        "fault",
        "The last stop was not clean: this many records follow the signed head, and a new head now covers them.",
        ("path", "records", "signed"),
    ),
    Event("head.failed", "error", "fault", "The signed head can't be written; the server retries.", ("path", "error")),
    Event(
        "clock.behind_the_log",
        "warning",
        "fault",
        "At the start, the machine's clock is behind the newest record.",
        ("newest_record", "now"),
    ),
    Event(
        "clock.set_back",
        "warning",
        "fault",
        "The machine's clock was set back while the server ran; the server's time continues without the step.",
        ("ahead_ms", "now"),
    ),
    Event(
        "disk.low",
        "error",
        "fault",
        "The disk has less free space than `disk_reserve_mib`: only what takes rights away, and new secrets, are recorded.",
        ("path", "free_mib"),
    ),
    Event("disk.enough", "info", "life", "The disk has enough free space again.", ("path", "free_mib")),
    Event("clock.caught_up", "info", "life", "The machine's clock has caught up with the server's time."),
    Event(
        "passwords.unprotected",
        "warning",
        "fault",
        "A setting for tests is on: password hashes protect nothing.",
        ("because",),
    ),
    Event(
        "expiry.session_not_found", "error", "fault", "A session that should expire is not in the log.", ("session_id",)
    ),
    Event(
        "expiry.failed",
        "error",
        "fault",
        "The end of an expired session could not be written; the session is refused all the same.",
        ("session_id", "error", "traceback"),
        repeats=("error",),
    ),
    Event(
        "model_trace.ended",
        "error",
        "fault",
        "The trace can't be written any more; the server continues.",
        ("path", "error"),
    ),
    Event(
        "execution.error",
        "warning",
        "fault",
        "A realm's code raised an error, or returned what it does not declare.",
        ("execution_id", "intent", "traceback"),
        repeats=("intent",),
    ),
    Event(
        "execution.not_stopping",
        "warning",
        "fault",
        "A realm's code still runs 5 s after its cancellation; its execution ends without it.",
        ("execution_id", "intent"),
        repeats=("intent",),
    ),
    Event(
        "execution.late",
        "warning",
        "fault",
        "A realm's code returned a result after its execution had ended or was being stopped; it is refused.",
        ("execution_id", "intent"),
        repeats=("intent",),
    ),
    Event(
        "execution.store_failed",
        "error",
        "fault",
        "A realm's store did not say whether it committed a result. The execution waits, and the store is asked again.",
        ("execution_id", "traceback"),
        repeats=(),
    ),
    Event(
        "execution.failed",
        "error",
        "fault",
        "The server could not lead an execution to its outcome; it is recorded as failed, or the next start ends it.",
        ("execution_id", "traceback"),
        repeats=(),
    ),
    Event(
        "execution.forged",
        "critical",
        "fault",
        "The stored parameters of an execution are not the recorded ones. It fails without having run.",
        ("execution_id",),
    ),
    Event(
        "remote.failed",
        "warning",
        "fault",
        "A call of a remote realm, or the notice of its cancellation, failed. A call is repeated if effects and time allow.",
        ("realm", "execution_id", "because"),
        repeats=("realm", "because"),
    ),
    Event(
        "server.ready",
        "info",
        "life",
        "The server accepts requests.",
        ("orphans_disconnected", "superseded_ended", "executions_interrupted"),
    ),
    Event("server.stopped", "info", "life", "The server has stopped cleanly."),
    Event("keys.changed", "info", "life", "Keys were added or removed.", ("signing", "verifying", "retired_early")),
    Event("oidc.keys_fetched", "info", "life", "The identity provider's keys were fetched.", ("keys",)),
    Event("admin.call", "info", "identity", "An administrator's call was accepted.", ("actor", "method", "route")),
    Event(
        "log_stream.ended",
        "info",
        "life",
        "The server ended a live stream of the log or of events.",
        ("actor", "reason"),
    ),
    Event(
        "log_stream.slow",
        "info",
        "life",
        "The client of a live stream was too slow; the stream ends with `slow-consumer`.",
        ("actor",),
    ),
    Event(
        "log_stream.cut", "info", "life", "The client of a live stream read nothing and was disconnected.", ("actor",)
    ),
    Event(
        "webhook.failed",
        "warning",
        "fault",
        "A webhook did not take a message; it is sent again.",
        ("webhook", "because"),
        repeats=("webhook", "because"),
    ),
    Event(
        "webhook.dead_letter",
        "error",
        "fault",
        "A message to a webhook was given up after three days of attempts. It can be replayed.",
        ("webhook", "position", "because"),
        repeats=("webhook",),
    ),
    Event(
        "webhook.disabled",
        "error",
        "fault",
        "Nothing is sent to a webhook any more until it is enabled again.",
        ("webhook", "because"),
    ),
    Event("webhook.enabled", "info", "life", "A webhook that was disabled is sent to again.", ("webhook",)),
    Event("metrics.listening", "info", "life", "Metrics are served.", ("url",)),
    Event("spans.sending", "info", "life", "OpenTelemetry spans are sent.", ("url",)),
    Event(
        "http.answered",
        "info",
        "life",
        "A request was answered (only with `access_log`).",
        ("method", "route", "status", "duration_ms"),
    ),
    Event("socket.opened", "info", "life", "A WebSocket is open (only with `access_log`).", ("connection_id",)),
    Event(
        "socket.closed",
        "info",
        "life",
        "A WebSocket is closed (only with `access_log`).",
        ("connection_id", "code", "by"),
    ),
)

EVENTS: Final[dict[str, Event]] = {row.name: row for row in _ROWS}
"""Every event by name."""
