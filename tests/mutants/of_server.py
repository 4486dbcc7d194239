"""Bugs in what happens over disk and network: the door, the writer, the database's own rules, sockets, expiry, the start."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_TRACE: Final = "tests/server/test_trace.py::"
_DOOR: Final = "tests/server/test_sessions.py::"
_LOG: Final = "tests/server/test_surface.py::TestSqliteLog::"
_EXPIRY: Final = "tests/server/test_expiry.py::"
_POWER: Final = "tests/faults/test_power.py::test_what_was_acknowledged_is_there_after_a_power_cut"

OF_SERVER: Final[tuple[Mutant, ...]] = (
    Mutant(
        "told-before-the-commit",
        "server/surface/sqlite/writer.py",
        "The writer's thread tells callers of a batch that it is about to commit.",
        "acknowledged_logged",
        _TRACE + "test_nobody_is_told_before_the_commit",
        "acknowledged_logged: ",
        (
            (
                (
                    '            self._connection.execute("COMMIT")\n        except _Busy:\n'
                    "            return [Overloaded() for _ in units]\n        except IntegrityError:\n"
                ),
                (
                    "            self._loop.call_soon_threadsafe(self._resolve, units, outcomes, (0, 0))\n"
                    '            self._connection.execute("COMMIT")\n        except _Busy:\n'
                    "            return [Overloaded() for _ in units]\n        except IntegrityError:\n"
                ),
            ),
        ),
    ),
    Mutant(
        "the-door-does-not-wait-for-the-log",
        "server/runtime/sessions.py",
        "A caller is answered as soon as the log has been asked.",
        "acknowledged_logged",
        _TRACE + "test_nobody_is_told_before_the_commit",
        "acknowledged_logged: ",
        (
            (
                "        records = await answered\n",
                (
                    '        return Outcome(steps[-1].session, [Record(0, step.transition, b"") for step in steps])\n'
                    "        records = await answered\n"
                ),
            ),
        ),
    ),
    Mutant(
        "synced-now-and-then",
        "server/surface/sqlite/engine.py",
        "The WAL is synced at checkpoints only: a power cut takes what was acknowledged since.",
        "durability",
        _POWER,
        'surface.log.history("session", story.session_id, 0, 100) == acknowledged',
        (('        "synchronous=FULL",\n', '        "synchronous=NORMAL",\n'),),
    ),
    Mutant(
        "never-synced",
        "server/surface/sqlite/engine.py",
        "Nothing is synced: what a power cut leaves is up to the kernel.",
        "durability",
        _POWER,
        'surface.log.history("session", story.session_id, 0, 100) == acknowledged',
        (('        "synchronous=FULL",\n', '        "synchronous=OFF",\n'),),
    ),
    Mutant(
        "the-database-takes-any-version",
        "server/surface/sqlite/schema.py",
        "The database no longer refuses a version that does not follow.",
        "versions_gapless",
        _TRACE + "test_of_two_doors_on_one_log_each_decides_on_the_latest_version",
        "versions_gapless: ",
        (
            ("        UNIQUE (session_id, version),\n", ""),
            (
                "session_id = NEW.session_id AND version = NEW.version - 1 AND state IS NEW.source)",
                "session_id = NEW.session_id)",
            ),
            (
                "                OR NEW.version <> OLD.version + 1 OR NOT EXISTS (\n",
                "                OR NOT EXISTS (\n",
            ),
        ),
    ),
    Mutant(
        "the-database-takes-a-command-twice",
        "server/surface/sqlite/schema.py",
        "Neither index nor trigger refuses a command that is recorded, so that a repeat happens again.",
        "command_once",
        _TRACE + "test_a_repeat_is_acknowledged_again_and_appended_once",
        "command_once: ",
        (
            (",\n        UNIQUE (session_id, command_id)\n", "\n"),
            ("session_id = NEW.session_id AND command_id = NEW.command_id);", "session_id IS NULL);"),
        ),
    ),
    Mutant(
        "a-column-the-projection-forgets",
        "server/surface/sqlite/rows.py",
        "A touch moves the idle deadline in memory and not in the stored session.",
        "replay_equals_state",
        _LOG + "test_the_nearer_deadline_counts",
        'await log.live_deadlines("session") == ',
        (
            (
                "        session.idle_deadline_ms,\n        session.absolute_deadline_ms,\n",
                (
                    "        session.created_at_ms + session.policy.idle_timeout_ms,\n"
                    "        session.absolute_deadline_ms,\n"
                ),
            ),
        ),
    ),
    Mutant(
        "the-projection-loses-a-connection",
        "server/surface/sqlite/rows.py",
        "The stored session holds one connection fewer than its log.",
        "replay_equals_state",
        _LOG + "test_what_was_appended_is_loaded_and_read_back",
        "await log.load(SESSION_MACHINE, story.session_id) == story.session",
        (("_encoder.encode(session.connections)", "_encoder.encode(session.connections[1:])"),),
    ),
    Mutant(
        "memory-believes-a-repeat",
        "server/runtime/sessions.py",
        "After a repeat memory holds what was decided for it, which was never recorded.",
        "cache_is_fold",
        _TRACE + "test_a_repeat_is_acknowledged_again_and_appended_once",
        "cache_is_fold: ",
        (
            (
                "            if records[0].transition is not steps[0].transition:\n",
                "            if not records:\n",
            ),
        ),
    ),
    Mutant(
        "memory-keeps-what-the-log-refused",
        "server/runtime/sessions.py",
        "Memory changes when the log is asked, and does not change back when it refuses.",
        "cache_is_fold",
        "tests/server/test_sessions_overload.py::test_an_overloaded_log_leaves_memory_exact",
        "await door.sessions.load(two.session_id) == two",
        (
            (
                "            steps = [Step(first.transition, first.instance, along), *rest]\n",
                (
                    "            steps = [Step(first.transition, first.instance, along), *rest]\n"
                    "            self._remember(steps[-1].session)\n"
                ),
            ),
        ),
    ),
    Mutant(
        "half-of-a-refused-batch-stays",
        "server/runtime/sessions.py",
        "Of a batch whose second command is refused the first has happened in memory.",
        "refusal_changes_nothing",
        _DOOR + "test_a_refusal_changes_nothing_and_tells_nobody",
        "await door.sessions.load(session.session_id) == session",
        (
            (
                "            steps.append(Step(transition, session))\n",
                "            steps.append(Step(transition, session))\n            self._remember(session)\n",
            ),
        ),
    ),
    Mutant(
        "a-slow-read-brings-back-the-past",
        "server/runtime/sessions.py",
        "A session is read outside its turn, and what was read replaces what was written meanwhile.",
        "view_monotonic",
        _DOOR + "test_what_was_read_before_a_command_is_not_remembered_after_it",
        "(await door.sessions.load(session.session_id)).version == told",
        (
            (
                (
                    "        await self._turns.take(session_id)\n"
                    "        try:\n"
                    "            return await self._read(session_id)\n"
                    "        finally:\n"
                    "            self._turns.give(session_id)\n"
                ),
                "        return await self._read(session_id)\n",
            ),
        ),
    ),
    Mutant(
        "a-late-repeat-is-told-the-past",
        "server/runtime/sessions.py",
        "A repeat is told the session as it stood right after the command, not as it stands.",
        "view_monotonic",
        _TRACE + "test_a_late_repeat_is_told_where_the_session_stands_now",
        "view_monotonic: ",
        (
            (
                "            return Outcome(await self.load(session_id), records)\n",
                (
                    "            told = await self._log.history(session_id, 0, records[-1].transition.version)\n"
                    "            past = absent(session_id)\n"
                    "            for each in told:\n"
                    "                past = evolve(past, each.transition)\n"
                    "            return Outcome(past, records)\n"
                ),
            ),
        ),
    ),
    Mutant(
        "a-stale-view-never-catches-up",
        "server/runtime/sessions.py",
        "Memory that another writer has overtaken is kept, so that each try decides on the same old session.",
        "views_catch_up",
        _DOOR + "test_another_writers_append_is_read_and_the_command_decided_again",
        "kept changing under another writer",
        (
            (
                "            except VersionConflict:\n                self._cache.pop(session_id, None)\n",
                "            except VersionConflict:\n                pass\n",
            ),
            (
                "                if not isinstance(error, Overloaded):\n",
                "                if isinstance(error, SurfaceFailed):\n",
            ),
        ),
    ),
    Mutant(
        "a-socket-opens-on-an-ended-session",
        "server/experience/websocket.py",
        "Nobody looks again at a session that ended between its connect and the greeting.",
        "open_guard",
        _TRACE + "test_a_session_that_ends_during_the_handshake_opens_no_socket",
        "open_guard: ",
        (
            (
                "            ensure_usable(session, self._services.clock.now_ms())\n        except SessionEnded as ended:\n",
                "            pass\n        except SessionEnded as ended:\n",
            ),
            # Nor that it has lost its connections.
            (
                "        if self._conversation.connection_id not in [held",
                "        if False and self._conversation.connection_id not in [held",
            ),
        ),
    ),
    Mutant(
        "every-connection-has-one-name",
        "server/experience/endpoints/connect.py",
        "Two sockets of a session have the same connection id.",
        "single_owner",
        _TRACE + "test_each_socket_opens_and_ends_once",
        "single_owner: ",
        (('    connection_id = new_id("con")\n', '    connection_id = "con"\n'),),
    ),
    Mutant(
        "a-connect-in-anothers-name",
        "server/experience/room.py",
        "A connect names another node than the one that holds the socket.",
        "single_owner",
        _TRACE + "test_a_socket_that_left_is_disconnected",
        "single_owner: ",
        (("Connect(connection_id, settings.node)", 'Connect(connection_id, "default")'),),
    ),
    Mutant(
        "a-start-leaves-orphans",
        "server/runtime/recovery.py",
        "A start leaves the connections of the process that died in the log.",
        "orphan_reaped",
        _TRACE + "test_a_start_disconnects_what_a_dead_process_left",
        "orphan_reaped: ",
        (("await disconnect_orphans(log, sessions, node, at_once=at_once) for", "0 for"),),
    ),
    Mutant(
        "a-socket-that-left-stays-recorded",
        "server/experience/websocket.py",
        "A peer that leaves is not recorded as gone.",
        "orphan_reaped",
        _TRACE + "test_a_socket_that_left_is_disconnected",
        "connections == ()",
        (("            self._context.run(services.spawn, self._record_disconnect(code))\n", "            pass\n"),),
    ),
    Mutant(
        "a-start-writes-before-it-has-recovered",
        "server/wiring.py",
        "A start writes before it has put right what its former self left.",
        "crashed_recovers",
        _TRACE + "test_a_start_disconnects_what_a_dead_process_left",
        "crashed_recovers: ",
        (
            (
                "        await trace_missed(surface.log, storage.trace)\n",
                '        await trace_missed(surface.log, storage.trace)\n        await sessions.begin("server")\n',
            ),
        ),
    ),
    Mutant(
        "sockets-hear-of-the-end-later",
        "server/runtime/sessions.py",
        "The end of a session is acknowledged, and its sockets are told a moment after.",
        "revocation_fence",
        _TRACE + "test_the_end_of_a_session_is_acknowledged_when_its_sockets_are_closed",
        "revocation_fence: ",
        (
            (
                "                    guarded(listener, record, step.instance)\n",
                "                    asyncio.get_running_loop().call_later(0.05, listener, record, step.instance)\n",
            ),
        ),
    ),
    Mutant(
        "only-one-socket-hears",
        "server/runtime/connections.py",
        "Of several sockets of a session one is told that it ended.",
        "revocation_fence",
        _TRACE + "test_the_end_of_a_session_is_acknowledged_when_its_sockets_are_closed",
        "revocation_fence: ",
        (
            (
                "        for port in list(self._ports.get(session.session_id, {}).values()):\n",
                "        for port in list(self._ports.get(session.session_id, {}).values())[:1]:\n",
            ),
        ),
    ),
    Mutant(
        "a-renewed-session-is-forgotten",
        "server/runtime/expiry.py",
        "A session that was renewed is not looked at again, and never expires.",
        "expires_or_renewed",
        _EXPIRY + "test_a_renewed_session_is_looked_at_again_at_its_new_deadline",
        "await server.sessions.load(session.session_id)).ended",
        (
            (
                "                return session.deadline_ms\n",
                "                return None\n",
            ),
        ),
    ),
    Mutant(
        "an-expiry-is-tried-once",
        "server/runtime/expiry.py",
        "An expiry that the log did not take is not tried again.",
        "expires_or_renewed",
        _EXPIRY + "test_what_the_log_did_not_take_is_asked_again",
        "await server.sessions.load(session.session_id)).ended",
        (
            (
                (
                    "                self._sessions.check_alive()\n"
                    "                return self._clock.now_ms() + _RETRY_MS\n"
                ),
                "                self._sessions.check_alive()\n",
            ),
        ),
    ),
    Mutant(
        "a-start-forgets-the-deadlines",
        "server/runtime/expiry.py",
        "Sessions from before a start never expire.",
        "expires_or_renewed",
        _EXPIRY + "test_a_start_restores_the_deadlines_of_those_that_live",
        "in test_a_start_restores_the_deadlines_of_those_that_live",
        (("        self._deadlines.restore(deadlines)\n", "        self._deadlines.restore(deadlines[:0])\n"),),
    ),
    Mutant(
        "a-refusal-keeps-the-turn",
        "server/runtime/sessions.py",
        "After a refusal nobody else gets the session's turn, and all wait for ever.",
        "command_answered",
        _DOOR + "test_commands_to_one_session_are_taken_in_turn",
        "TimeoutError",
        (
            (
                "        except BaseException as error:\n            self._turns.give(session_id)\n",
                "        except BaseException as error:\n",
            ),
        ),
    ),
    Mutant(
        "a-start-believes-what-it-reads",
        "server/surface/sqlite/files.py",
        "A start does not write once more what it found in the write-ahead log.",
        "durability",
        "tests/server/test_database.py::test_a_start_writes_once_more_what_it_found_in_the_write_ahead_log",
        "assert 4 == 5",
        (('database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()', "pass"),),
    ),
)
