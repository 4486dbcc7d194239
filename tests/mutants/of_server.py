"""Bugs in the executing code: the log, the door, sockets, recovery, expiry."""

from __future__ import annotations

from typing import Final

from tests.mutants.edit import at, drop, in_text, replace, returns
from tests.mutants.mutant import Mutant

OF_SERVER: Final[tuple[Mutant, ...]] = (
    Mutant(
        "The writer's thread tells callers of a batch that it is about to commit.",
        "acknowledged_logged",
        "test_nobody_is_answered_before_the_commit",
        at(
            "writer:Writer._commit",
            replace(
                "self._connection.execute('COMMIT')",
                "self._loop.call_soon_threadsafe(self._workers.settle, units, outcomes)\n...",
            ),
        ),
        says="acknowledged_logged:",
    ),
    Mutant(
        "A caller is answered as soon as the log has been asked.",
        "acknowledged_logged",
        "test_nobody_is_answered_before_the_commit",
        at(
            "door:_submit_once",
            replace(
                "records = await answered",
                """
                return [Recorded(own[-1].instance, [Record(0, each.transition, b'') for each in own]) for own in steps]
                ...
                """,
            ),
        ),
        says="acknowledged_logged:",
    ),
    Mutant(
        "The WAL is synced at checkpoints only: a power cut takes what was acknowledged since.",
        "durability",
        "test_acknowledged_records_survive_a_power_cut",
        at("engine:open_writer", replace("'synchronous=FULL'", "'synchronous=NORMAL'")),
    ),
    Mutant(
        "The database no longer refuses a version that does not follow.",
        "versions_gapless",
        "test_two_doors_on_one_log_each_decide_on_the_latest_version",
        at("schema:_TABLES", in_text("UNIQUE (kind, instance_id, version),", ""))
        + at(
            "schema:_APPEND_ONLY",
            in_text(
                "(kind, instance_id, version) = (NEW.kind, NEW.instance_id, NEW.version - 1) AND state IS NEW.source)",
                "(kind, instance_id) = (NEW.kind, NEW.instance_id))",
            ),
        )
        + at(
            "schema:triggers",
            in_text(
                "(NEW.kind, NEW.instance_id, NEW.version, NEW.created_at_ms)",
                "(NEW.kind, NEW.instance_id, NEW.created_at_ms)",
            ),
            in_text(
                "(OLD.kind, OLD.instance_id, OLD.version + 1, OLD.created_at_ms)",
                "(OLD.kind, OLD.instance_id, OLD.created_at_ms)",
            ),
        ),
        says="versions_gapless:",
    ),
    Mutant(
        "Neither index nor trigger refuses a command that is recorded, so that a repeat happens again.",
        "command_once",
        "test_a_repeat_is_traced_as_acknowledged_again_and_appended_once",
        at("schema:_TABLES", in_text(", UNIQUE (kind, instance_id, command_id)", ""))
        + at(
            "schema:_APPEND_ONLY",
            in_text(
                "(kind, instance_id, command_id) = (NEW.kind, NEW.instance_id, NEW.command_id));",
                "(kind, instance_id) = (NULL, NULL));",
            ),
        ),
        says="command_once:",
    ),
    Mutant(
        "A touch moves the deadline in memory and not in the stored session's row.",
        "replay_equals_state",
        "TestSqliteLog::test_the_nearer_deadline_is_stored",
        at(
            "rows:step_values",
            replace("keys.deadline_ms", "instance.created_at_ms + instance.policy.idle_timeout_ms"),
        ),
    ),
    Mutant(
        "The stored session holds one connection fewer than its log.",
        "replay_equals_state",
        "TestSqliteLog::test_appended_records_are_loaded_and_read_back",
        at(
            "rows:step_values",
            replace(
                "_encode(instance)", "_encode(msgspec.structs.replace(instance, connections=instance.connections[1:]))"
            ),
        ),
    ),
    Mutant(
        "Memory changes when the log is asked, and does not change back when it refuses.",
        "cache_is_fold",
        "test_an_overloaded_log_leaves_memory_exact",
        at("door:Door.decide", replace("return steps", "self._remember(instance)\n...")),
    ),
    Mutant(
        "Of a batch whose second command is refused the first has happened in memory.",
        "refusal_changes_nothing",
        "test_a_refusal_changes_nothing_and_is_not_published",
        at(
            "door:Door.decide",
            replace(
                "steps.append(Step(transition, instance, None if steps else change.along))",
                "...\nself._remember(instance)",
            ),
        ),
    ),
    Mutant(
        "A session is read outside its turn, and what was read replaces what was written meanwhile.",
        "view_monotonic",
        "test_a_read_from_before_a_command_is_not_cached_after_it",
        at(
            "door:Door.load",
            replace(
                """
                await self.turns.take(instance_id)
                try:
                    return await self._read(instance_id)
                finally:
                    self.turns.give(instance_id)
                """,
                "return await self._read(instance_id)",
            ),
        )
        + at("door:Door._read", replace("instance_id in self._reading", "True")),
    ),
    Mutant(
        "A repeat is told the session as it stood right after the command, not as it stands.",
        "view_monotonic",
        "test_a_late_repeat_is_traced_with_the_sessions_current_version",
        at(
            "door:_submit_once",
            replace(
                "await change.door.load(change.instance_id)",
                """
                change.door.machine.replay(
                    change.instance_id,
                    [
                        each.transition
                        for each in await change.door.history(
                            change.instance_id, 0, own_records[-1].transition.version
                        )
                    ],
                )
                """,
            ),
        ),
        says="view_monotonic:",
    ),
    Mutant(
        "Memory that another writer has overtaken is kept, so that each try decides on the same old session.",
        "views_catch_up",
        "test_a_command_is_decided_again_after_another_writers_append",
        at("door:Door.settle", replace("not isinstance(records, Overloaded)", "isinstance(records, SurfaceFailed)")),
    ),
    Mutant(
        "A socket opens with any connect of its session, its own or not.",
        "open_guard",
        "test_concurrent_sockets_each_open_with_their_own_connect",
        at(
            "conversation:Conversation.observe",
            replace("move.data.connection_id == self.connection_id", "True"),
        ),
        says="open_guard:",
    ),
    Mutant(
        "Two sockets of a session have the same connection id.",
        "single_owner",
        "test_each_socket_is_traced_as_opened_and_ended_once",
        at("connect:_arrive", replace("new_id('con')", "'con'")),
        says="single_owner:",
    ),
    Mutant(
        "A connect names another node than the one that holds the socket.",
        "single_owner",
        "test_a_socket_that_leaves_is_traced_as_disconnected",
        at("connection_limits:ConnectionLimits._record", replace("self._settings.node", "'default'")),
        says="single_owner:",
    ),
    Mutant(
        "A start leaves the connections of the process that died in the log.",
        "orphan_reaped",
        "test_a_start_traces_disconnects_of_a_dead_processs_connections",
        at("recovery:disconnect_orphans", returns("0")),
        says="orphan_reaped:",
    ),
    Mutant(
        "A peer that leaves is not recorded as gone.",
        "orphan_reaped",
        "test_a_socket_that_leaves_is_traced_as_disconnected",
        at("socket:Socket.lost", drop("self._context.run(services.spawn, self._record_disconnect(code, by))")),
    ),
    Mutant(
        "A start writes before it has put right what its former self left.",
        "crashed_recovers",
        "test_a_start_traces_disconnects_of_a_dead_processs_connections",
        at("wiring:open_services", replace("keeper = ...", "await sessions.begin('server')\n...")),
        says="crashed_recovers:",
    ),
    Mutant(
        "The end of a session is acknowledged, and its sockets are told a moment after.",
        "revocation_fence",
        "test_a_sessions_end_is_acknowledged_after_its_sockets_are_closed",
        at(
            "feed:Feed._take",
            replace(
                "guarded(listener, record, instance)",
                "guarded(listener, record, instance) if record.transition.event != 'revoke' else"
                " __import__('asyncio').get_running_loop().call_later(0.05, listener, record, instance)",
            ),
        ),
        says="revocation_fence:",
    ),
    Mutant(
        "Of several sockets of a session one is told that it ended.",
        "revocation_fence",
        "test_a_sessions_end_is_acknowledged_after_its_sockets_are_closed",
        at(
            "connections:Connections.observe",
            replace("list(listeners.values())", "list(listeners.values())[: 1 if data.event == 'revoke' else None]"),
        ),
        says="revocation_fence:",
    ),
    Mutant(
        "A session that was renewed is not looked at again, and never expires.",
        "expires_or_renewed",
        "test_a_renewed_session_expires_at_its_new_deadline",
        at("expiry:Expiry._look_at", replace("return session.deadline_ms", "return None")),
    ),
    Mutant(
        "An expiry that the log did not take is not tried again.",
        "expires_or_renewed",
        "test_an_expiry_that_the_log_refused_is_retried",
        at(
            "expiry:Expiry._look_at",
            replace("self._sessions.check_alive()\nreturn ...", "self._sessions.check_alive()"),
        ),
    ),
    Mutant(
        "Sessions from before a start never expire.",
        "expires_or_renewed",
        "test_a_start_restores_the_deadlines_of_live_sessions",
        at("expiry:Expiry.restore", replace("deadlines", "deadlines[:0]")),
    ),
    Mutant(
        "After a refusal nobody else gets the session's turn, and all wait for ever.",
        "command_answered",
        "test_commands_to_one_session_are_taken_in_turn",
        at("door:_submit_once", replace("change.door.turns.give(change.instance_id)", "pass")),
    ),
    Mutant(
        "A start does not write once more what it found in the write-ahead log.",
        "durability",
        "test_a_start_rewrites_what_it_found_in_the_write_ahead_log",
        at("files:_prepare", drop("database.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchall()")),
    ),
    Mutant(
        "Sockets hear of a transition after all others.",
        "revocation_fence",
        "test_a_server_closes_sockets_before_other_listeners_are_called",
        at("wiring:_follow", drop("feed.subscribe(connections.observe, SESSION_MACHINE.kind)"))
        + at(
            "wiring:open_services",
            replace(
                "await feed.start(position)",
                "feed.subscribe(connections.observe, SESSION_MACHINE.kind)\nawait feed.start(position)",
            ),
        ),
        says="assert open_when_told == []",
    ),
    Mutant(
        "A writer is answered before those who follow the log have had what it wrote.",
        "cache_is_fold",
        "TestSqliteLog::test_a_follower_gets_records_before_their_writer_is_answered",
        at(
            "writer:Writer._resolve",
            replace(
                "self.deliver(units, outcomes)",
                "self._loop.call_later(0.01, self.deliver, units, outcomes)",
            ),
        ),
    ),
    Mutant(
        "What was written while a follower read what it had missed is never handed to it.",
        "views_catch_up",
        "TestSqliteLog::test_a_follower_gets_old_and_new_records_once_each",
        at("log:SqliteLog.follow", replace("after < self._delivered", "after < self._head.position and not after")),
    ),
    Mutant(
        "A record that a follower was not given is passed over without a word.",
        "views_catch_up",
        "test_a_log_that_skips_a_record_is_no_longer_followed",
        at("feed:Feed._advance", replace("record.position != self._position + 1", "False")),
    ),
    Mutant(
        "Memory keeps what another process has changed.",
        "views_catch_up",
        "test_an_instance_changed_by_another_process_is_read_again",
        at("door:Door._apply", drop("self._cache.pop(record.transition.instance_id, None)")),
    ),
    Mutant(
        "What was read before another process's record is remembered after it.",
        "view_monotonic",
        "test_a_read_overtaken_by_the_log_is_not_cached",
        at("door:Door._apply", drop("self._reading.discard(record.transition.instance_id)")),
    ),
    Mutant(
        "Memory that could not follow the log is served from all the same.",
        "cache_is_fold",
        "TestSqliteLog::test_a_failing_follower_stops_the_log",
        at(
            "writer:Writer._resolve",
            replace("self._stop(f'the log is not followed any more: {error!r}')", "str(error)"),
        ),
    ),
    Mutant(
        "What was committed before memory lost the log, and answered after it, is acknowledged.",
        "cache_is_fold",
        "TestSqliteLog::test_a_failed_follower_is_not_called_again",
        at("writer:Writer._stop", drop("self._unfollowed = failure")),
    ),
    Mutant(
        "A start disconnects what other nodes hold.",
        "single_owner",
        "test_a_start_disconnects_only_its_own_nodes_orphans",
        at("recovery:disconnect_orphans", replace("connection.node == node", "True")),
    ),
    Mutant(
        "A socket takes a login that its credential came with for a later one.",
        "open_guard",
        "test_a_socket_with_a_login_not_yet_followed_stays_open",
        at("conversation:Conversation.observe", drop("if not self.greeted:\n    ...")),
    ),
)
