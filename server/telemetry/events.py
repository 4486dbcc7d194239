"""Every event that is logged, once: its level, its fields, and what it means to whoever reads it.

A call such as ``_log.warning("login.failed", method="password")`` is a row here: same level, no field that the row lacks.
A test reads all calls in the source and compares. So the log has a fixed vocabulary; the page that documents it is this table.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Group: TypeAlias = Literal["identity", "refusal", "fault", "life"]

GROUPS: Final[dict[Group, str]] = {
    "identity": "Who came in, and who did not (ASVS 16.3.1)",
    "refusal": "What was refused, and what was ended (ASVS 16.3.2, 16.3.3)",
    "fault": "What went wrong with the server itself (ASVS 16.3.4)",
    "life": "The server's life; each request, if the setting `access_log` is on",
}


class Event(msgspec.Struct, frozen=True):
    """One row. ``fields`` are keys of FIELDS; those of CONTEXT need not be named.

    ``repeats``: as often as somebody likes, it may happen again with the same ``client`` (for a fault: at the same place in the
    code) and the same values of these fields. :mod:`interlock.server.telemetry.repeats` then tells a number. None: each one has
    its line.
    """

    name: str
    level: Level
    group: Group
    about: str
    fields: tuple[str, ...] = ()
    repeats: tuple[str, ...] | None = None


FIELDS: Final[dict[str, str]] = {
    "account": "Keyed hash of an email address as it was typed; the same for the same one until the refresh key is rotated.",
    "actor": "Who caused it: an account's id, `anonymous`, `server`, or an administrator's name.",
    "address": "Address of the client, as far as the proxies in `trusted_proxies` tell.",
    "ahead_ms": "How far the server's time is ahead of the machine's clock.",
    "because": "Why, in words.",
    "by": "Who ended it (`server` or `client`), or what a limit counts by.",
    "claim": "Name of a claim of an ID token.",
    "client": "Address of the client, as far as the proxies in `trusted_proxies` tell; where no request was read, the peer's.",
    "code": "WebSocket close code.",
    "connection_id": "The WebSocket connection.",
    "dropped": "How many lines.",
    "duration_ms": "From the request's arrival to the beginning of its answer.",
    "ended_of_disabled": "Sessions of disabled accounts that a dead server left.",
    "ended_of_old_passwords": "Sessions of replaced passwords that a dead server left.",
    "error": "What the operating system or the library said, or the kind of error.",
    "failure": "What stopped the log.",
    "free_mib": "Free space of the disk, in MiB.",
    "guard": "The guard that failed; null if the lifecycle has no such transition.",
    "header": "Name of a header of the request.",
    "host": "The setting `host`.",
    "instance_event": "The event that was asked for.",
    "instance_id": "The session, or whatever else was asked. It opens nothing.",
    "instance_kind": "What was asked: `session`, say.",
    "keys": "Their names.",
    "kind": "What was limited.",
    "known": "The account has logged in from this browser or address before.",
    "listener": "Name of the function in the source.",
    "method": "HTTP method; with logins, the way in which somebody proved who they are.",
    "newest_record": "Time, or position, of the newest record.",
    "now": "The time by this machine's clock.",
    "open_files": "How many files and connections this process may have open (`RLIMIT_NOFILE`).",
    "orphans_disconnected": "Connections that a dead server left in the log.",
    "part": "`head` or `body` of the request.",
    "path": "A file of the server's.",
    "place": "Kind of an error and where it was raised, in a line with `repeated`.",
    "problem": "Name of the problem type that was answered, or what is wrong.",
    "reason": "Why the session ended.",
    "records": "How many records.",
    "repeated": "So many more, which have no line of their own; see [repeats](#repeats).",
    "request_id": "The request; the same as in the answer's `X-Request-Id`.",
    "retired_early": "A key went while its tokens may live: it was compromised.",
    "route": "The route's template, never the address that was asked for.",
    "session_id": "The session. It opens nothing.",
    "signed": "Position of the record that the signed head names.",
    "signing": "Name of the key that signs.",
    "silent_s": "Seconds since it last made progress.",
    "state": "The state that it is in.",
    "status": "HTTP status.",
    "subject": "The account's id.",
    "task": "Name of the task; null if there was none.",
    "tcp_total": "How many TCP connections each port holds at most.",
    "traceback": "Kinds of the errors and the places they passed, innermost last; a message only if ours or the system's.",
    "url": "Where it listens, or sends to.",
    "verifying": "Names of the keys that verify.",
    "work": "Name of the background work, or of its thread.",
}
"""Every field that a line may have, besides `event`, `level`, `logger` and `timestamp`."""

CONTEXT: Final = ("request_id", "client", "session_id")
"""Fields that every line within a request has: `session_id` from the moment it is proved."""

_ROWS: Final = (
    Event("login.succeeded", "info", "identity", "Somebody proved who they are.", ("method", "subject", "session_id")),
    Event(
        "login.failed",
        "warning",
        "identity",
        "Somebody did not. Many: guessing.",
        ("method", "account", "address", "known"),
    ),
    Event("account.registered", "info", "identity", "An account was made.", ("subject",)),
    Event("password.changed", "info", "identity", "An account has a new password.", ("subject", "session_id")),
    Event("password.wrong", "warning", "identity", "A change of password gave a wrong current one.", ("subject",)),
    Event(
        "request.refused",
        "info",
        "refusal",
        "A request was answered with a problem: no or a bad credential, a foreign page, malformed input, a limit.",
        ("problem", "status", "method", "route"),
        repeats=("problem", "status"),
    ),
    Event("traffic.limited", "warning", "refusal", "A limit was hit.", ("kind", "by"), repeats=("kind", "by")),
    Event("traffic.slow", "info", "refusal", "A request came too slowly and was cut.", ("part",), repeats=("part",)),
    Event(
        "traffic.unreadable",
        "info",
        "refusal",
        "What came was no HTTP, or too much of it.",
        ("status",),
        repeats=("status",),
    ),
    Event("admin.refused", "warning", "refusal", "Nobody's secret was presented as an administrator's.", repeats=()),
    Event(
        "socket.refused",
        "info",
        "refusal",
        "A WebSocket's credential did not open it or keep it open, or a message broke the protocol.",
        ("code", "because"),
        repeats=("code", "because"),
    ),
    Event(
        "transition.refused",
        "info",
        "refusal",
        "A lifecycle did not allow what was asked; nothing changed.",
        ("instance_kind", "instance_id", "instance_event", "state", "guard"),
        repeats=("instance_kind", "instance_event", "state", "guard"),
    ),
    Event(
        "session.revoked",
        "info",
        "refusal",
        "A session was ended before its time: logout, revocation, new password.",
        ("session_id", "reason", "actor", "subject"),
    ),
    Event(
        "token.reused",
        "warning",
        "refusal",
        "A refresh token came back that the one it was issued to can't hold any more: it is in two hands. The session was"
        " ended.",
        ("session_id", "subject"),
    ),
    Event(
        "token.repeated",
        "info",
        "refusal",
        "A refresh token was answered that was not the newest one: another tab, a lost answer, or a copy.",
        ("session_id", "subject"),
        repeats=("session_id",),
    ),
    Event(
        "http.failed",
        "error",
        "fault",
        "A request was answered with 5xx. With `traceback`: a fault of the server.",
        ("problem", "status", "method", "route", "error", "because", "traceback"),
        repeats=("problem", "status", "route", "error"),
    ),
    Event(
        "http.broken",
        "error",
        "fault",
        "A fault of the server left a request without its answer.",
        ("traceback",),
        repeats=(),
    ),
    Event("socket.failed", "error", "fault", "A fault of the server ended a WebSocket.", ("traceback",), repeats=()),
    Event(
        "background.failed",
        "critical",
        "fault",
        "Background work failed, or ended. It is begun again; `/health/ready` answers 503 until half a minute after the last"
        " failure.",
        ("work", "traceback"),
        repeats=("work",),
    ),
    Event(
        "background.stuck",
        "critical",
        "fault",
        "Background work has made no progress for half a minute; `/health/ready` answers 503 until it goes on.",
        ("work", "silent_s"),
    ),
    Event(
        "listener.failed",
        "error",
        "fault",
        "What listens to transitions failed at one. The other listeners were told; a connection that failed was dropped.",
        ("listener", "traceback"),
        repeats=("listener",),
    ),
    Event(
        "task.failed",
        "error",
        "fault",
        "A fault of the server outside any request.",
        ("task", "because", "traceback"),
        repeats=(),
    ),
    Event("server.failed", "critical", "fault", "A fault of the server ended it.", ("traceback",)),
    Event(
        "log.dropped",
        "error",
        "fault",
        "Lines were dropped: standard error did not take them. There is room again.",
        ("dropped",),
    ),
    Event(
        "surface.failed", "critical", "fault", "The log stopped; nothing is acknowledged until a restart.", ("failure",)
    ),
    Event(
        "keys.unusable",
        "error",
        "fault",
        "The key files can't be used: whatever needs a credential is answered 503 until they can.",
        ("problem",),
    ),
    Event("keys.usable", "info", "fault", "The key files can be used again."),
    Event(
        "keys.ignored",
        "error",
        "fault",
        "A new key's file can't be used: that key does not count, and the next start will be refused.",
        ("problem",),
    ),
    Event(
        "keys.lives_not_written",
        "warning",
        "fault",
        "How long tokens live could not be noted for the command line.",
        ("path", "error"),
    ),
    Event(
        "files.unchecked",
        "warning",
        "fault",
        "For want of descriptors or memory a file could not be checked, or a folder not be listed; told once. What was known"
        " counts for 30 seconds more, and the known files of a folder for as long as they can be checked.",
        ("path", "error"),
    ),
    Event(
        "descriptors.limited",
        "warning",
        "fault",
        "The limit of open files is too low for the setting `tcp_total`, so fewer connections are taken.",
        ("tcp_total", "open_files"),
    ),
    Event(
        "proxy.untrusted",
        "warning",
        "fault",
        "A request came with the header of `forwarded_header` from an address that is not in `trusted_proxies`. If that is your"
        " proxy, all its clients count as one address; if not, put one in front. Said once for each address.",
        ("address", "header"),
    ),
    Event(
        "server.exposed",
        "warning",
        "fault",
        "The server listens for other machines, in plain HTTP, and `trusted_proxies` names no proxy that ends TLS.",
        ("host",),
    ),
    Event("upstream.keys_unavailable", "warning", "fault", "The identity provider's keys can't be had.", ("because",)),
    Event(
        "upstream.groups_left_out",
        "warning",
        "identity",
        "An ID token says that somebody's groups are too many to be in it; their account's groups stay as they were.",
        ("claim",),
        repeats=("claim",),
    ),
    Event(
        "head.replaced",
        "warning",
        "fault",
        "The setting `new_head` is on: the log was compared with no head, and gets a new one.",
        ("path", "records"),
    ),
    Event(
        "head.behind",
        "warning",
        "fault",
        "The last stop was not clean: so many records follow the signed head, which now takes them in.",
        ("path", "records", "signed"),
    ),
    Event("head.failed", "error", "fault", "The signed head can't be written; it is tried again.", ("path", "error")),
    Event("clock.behind_the_log", "warning", "fault", "The machine's clock was set back.", ("newest_record", "now")),
    Event(
        "clock.set_back",
        "warning",
        "fault",
        "The machine's clock was set back while the server ran; the server's time goes on from before.",
        ("ahead_ms", "now"),
    ),
    Event(
        "disk.low",
        "error",
        "fault",
        "The disk has less free space than `disk_reserve_mib`: only ends and disconnects are recorded.",
        ("path", "free_mib"),
    ),
    Event("disk.enough", "info", "life", "The disk has enough free space again.", ("path", "free_mib")),
    Event("clock.caught_up", "info", "life", "The machine's clock is where the server's time is again."),
    Event(
        "passwords.unprotected",
        "warning",
        "fault",
        "Password hashes protect nothing: a setting for tests.",
        ("because",),
    ),
    Event("expiry.session_not_found", "error", "fault", "A session to expire is not in the log.", ("session_id",)),
    Event(
        "expiry.failed",
        "error",
        "fault",
        "The end of an overdue session could not be written; it is refused all the same.",
        ("session_id", "error", "traceback"),
        repeats=("error",),
    ),
    Event(
        "trace.ended", "error", "fault", "The trace can't be written any more; the server goes on.", ("path", "error")
    ),
    Event(
        "server.ready",
        "info",
        "life",
        "The server takes requests.",
        ("orphans_disconnected", "ended_of_disabled", "ended_of_old_passwords"),
    ),
    Event("server.stopped", "info", "life", "The server has stopped in order."),
    Event("keys.changed", "info", "life", "Keys were added or have gone.", ("signing", "verifying", "retired_early")),
    Event("upstream.keys_fetched", "info", "life", "The identity provider's keys were fetched.", ("keys",)),
    Event("admin.call", "info", "identity", "An administrator's call was admitted.", ("actor", "method", "route")),
    Event("admin.stream_ended", "info", "life", "A live tail was ended.", ("actor", "reason")),
    Event("admin.stream_slow", "info", "life", "A live tail's reader was too slow and is told so.", ("actor",)),
    Event("admin.stream_cut", "info", "life", "A live tail's reader took nothing and was cut.", ("actor",)),
    Event("metrics.listening", "info", "life", "Metrics can be read.", ("url",)),
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
