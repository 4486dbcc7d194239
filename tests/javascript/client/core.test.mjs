// The client's core, one promise at a time.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { initial, next, step } from "../../../server/experience/client/source/core.js";

const HOUR = 3_600_000;
const EXPIRED = { type: "token-expired", recovery: "refresh" };
const BUSY = { type: "unavailable", recovery: "retry_later" };
const OVER = { type: "session-ended", recovery: "start_session", reason: "revoked" };

let state, now;

const put = (type, more = {}) => step(state, { type, ...more }, now);
const tokens = (version, more) => ({ session_id: "s", state: "authenticated", version, access_token: `t${version}`, expires_in: 300, ...more });
const named = (outputs, name) => outputs.filter(([what]) => what === name).map(([, ...values]) => values);
const hear = (message) => put("message", { n: state.socket.n, message });
const hello = (epoch, offset, unanswered = 16) =>
  hear({ type: "hello", state: "connected", ping_interval_ms: 20_000, limits: { unanswered }, stream: { epoch, offset } });
const sent = (outputs) => named(outputs, "send").map(([, { type, id }]) => (id ? `${type} ${id}` : type));

/** Open a connection, in as many ticks as it takes. */
function connect() {
  for (let tick = 0; !state.socket; tick++) {
    assert.ok(tick < 10, "it does not connect");
    now = Math.max(now, Math.min(next(state), now + HOUR));
    put("tick");
  }
  put("ticket", { n: state.socket.n, ticket: "x" });
}

beforeEach(() => {
  state = initial(() => 0.5);
  now = 1_000_000_000;
  put("tokens", { tokens: tokens(1) });
  put("connect");
  connect();
  hello("first", 0);
});

test("a late answer about an ended session is dropped", () => {
  put("close", { n: state.socket.n, code: 4403, text: "session ended: logout" });
  assert.deepEqual(put("tokens", { tokens: tokens(9) }), []);
  assert.deepEqual(put("heard", { message: { ...tokens(9), until: now + HOUR } }), []);
  assert.equal(state.token, null);
});

test("the end of the session is told, and nothing is left of it", () => {
  put("intent", { id: "i1", name: "x", parameters: {} });
  const outputs = put("close", { n: state.socket.n, code: 4403, text: "session ended: revoked" });
  assert.deepEqual(named(outputs, "tell"), [[{ ended: "s", reason: "revoked" }]]);
  assert.deepEqual(named(outputs, "refused").map(([id, { reason }]) => [id, reason]), [["i1", "revoked"]]);
  assert.deepEqual(named(outputs, "ended"), [["revoked"]]);
  const { dead, random, count, ...left } = state, { dead: _, random: __, count: ___, ...nothing } = initial();
  assert.deepEqual(left, nothing);
});

test("only the server's word ends the session, not a failure", () => {
  for (let tries = 0; tries < 50; tries++) {
    put("expired", { token: state.token });
    put("need");
    put("failed", { what: "refresh", n: state.asking, problem: BUSY });
    now = next(state);
    put("tick");
  }
  assert.equal(state.id, "s");
  put("failed", { what: "refresh", n: state.asking, problem: OVER });
  now += 1000;
  put("tick");
  assert.deepEqual(named(put("failed", { what: "refresh", n: state.asking, problem: OVER }), "ended"), [["revoked"]]);
});

test("waits grow to half a minute and a random part of them is waited", () => {
  const waits = [];
  for (let tries = 0; tries < 9; tries++) {
    put("close", { n: state.socket.n, code: 1006, text: "" });
    waits.push(state.dial.at - now);
    connect();
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  hello("first", 0);
  now += 60_000;
  put("close", { n: state.socket.n, code: 1006, text: "" });
  assert.equal(state.dial.at - now, 250, "after a connection of a minute it begins again");
});

test("a clock that is set back keeps nothing waiting", () => {
  put("close", { n: state.socket.n, code: 1006, text: "" });
  now -= HOUR;
  assert.deepEqual(named(put("tick"), "call").map(([what]) => what).sort(), ["refresh", "ticket"]);
});

test("intents are sent again only when the stream is where it was", () => {
  put("intent", { id: "known", name: "x", parameters: {} });
  put("intent", { id: "lost", name: "x", parameters: {} });
  put("close", { n: state.socket.n, code: 1006, text: "" });
  connect();
  assert.deepEqual(sent(hello("first", 2)), ["resume"]);
  assert.deepEqual(sent(hear({ type: "resumed", epoch: "first", offset: 0 })), []);
  assert.deepEqual(sent(hear({ type: "accepted", intent_id: "known", execution_id: "e", offset: 1 })), []);
  assert.deepEqual(sent(hear({ type: "progress", intent_id: "known", execution_id: "e", attempt: 1, data: [1], offset: 2 })), ["intent lost"]);
});

test("no more intents are unanswered than the server allows", () => {
  put("close", { n: state.socket.n, code: 1006, text: "" });
  for (const id of ["a", "b", "c"]) put("intent", { id, name: "x", parameters: {} });
  connect();
  hello("first", 0, 2);
  assert.deepEqual(sent(hear({ type: "resumed", epoch: "first", offset: 0 })), ["intent a", "intent b"]);
  assert.deepEqual(sent(hear({ type: "accepted", intent_id: "a", execution_id: "e", offset: 1 })), ["intent c"]);
});

test("a refusal for now is repeated under the same id, another one is final", () => {
  put("intent", { id: "a", name: "x", parameters: {} });
  hear({ type: "refused", intent_id: "a", problem: BUSY, retry_after_s: 2 });
  now += 2000;
  assert.deepEqual(sent(put("tick")), [], "a random part is added");
  now += 250;
  assert.deepEqual(sent(put("tick")), ["intent a"]);
  const outputs = hear({ type: "refused", intent_id: "a", problem: { type: "role-missing", recovery: "ask_administrator" } });
  assert.deepEqual(named(outputs, "refused").map(([id]) => id), ["a"]);
});

test("a connection that says nothing is given up", () => {
  now += 20_000;
  assert.deepEqual(sent(put("tick")), ["ping"]);
  now += 20_000;
  assert.deepEqual(named(put("tick"), "close").length, 1);
  assert.ok(state.dial);
});

test("after sleep the token and the connection are looked at, at once", () => {
  now += 10 * HOUR;
  const outputs = put("wake");
  assert.deepEqual(sent(outputs), ["ping"]);
  assert.deepEqual(named(outputs, "call").map(([what]) => what), ["refresh"]);
});

test("a token that the server has refused is not used again", () => {
  put("close", { n: state.socket.n, code: 4408, text: "token expired" });
  const calls = named(put("tick"), "call");
  assert.deepEqual(calls.map(([what]) => what), ["refresh"]);
  put("tokens", { what: "refresh", n: calls[0][1], tokens: tokens(2) });
  assert.deepEqual(named(put("tick"), "call").map(([what]) => what), ["ticket"]);
  assert.equal(state.token, "t2");
});

/** Refuse the connection with `code`, and answer the refresh that follows. */
function refuse(code, version) {
  const outputs = put("close", { n: state.socket.n, code, text: "" });
  if (state.id === null) return outputs;
  const wait = state.dial.at - now;
  now = state.dial.at;
  put("tick");
  put("tokens", { what: "refresh", n: state.asking, tokens: tokens(version) });
  connect();
  return wait;
}

test("a server that refuses each new token gets a rest, or ends the session", () => {
  assert.deepEqual([refuse(4408, 2), refuse(4408, 3), refuse(4408, 4)], [0, 250, 500]);
  hello("first", 0);
  assert.equal(refuse(4401, 5), 0, "the ticket may have come too late");
  assert.deepEqual(named(refuse(4401, 6), "ended"), [["credential-invalid"]]);
});

test("another tab's newer token is taken over, and the open socket renewed", () => {
  now += 100_000;
  const outputs = put("heard", { message: { ...tokens(2), until: now + 300_000 } });
  assert.deepEqual(named(outputs, "send").map(([, message]) => message), [{ type: "refresh", access_token: "t2" }]);
  assert.deepEqual(named(outputs, "tell"), [], "who hears it does not pass it on");
  assert.deepEqual(put("heard", { message: { ...tokens(1), until: now + HOUR } }), [], "an older one is not");
});

test("a refresh comes after 60 to 80 percent of the token's life", () => {
  for (const [chance, share] of [[0, 0.8], [1, 0.6]]) {
    state = initial(() => chance);
    put("tokens", { tokens: tokens(1) });
    assert.equal(Math.round(next(state) - now), share * 300_000);
  }
});

test("a ticket that is refused makes a new token, a busy server a wait", () => {
  put("close", { n: state.socket.n, code: 1006, text: "" });
  connect();
  put("failed", { what: "ticket", n: state.socket.n, problem: EXPIRED });
  assert.deepEqual(named(put("tick"), "call").map(([what]) => what), ["refresh"]);
  put("tokens", { what: "refresh", n: state.asking, tokens: tokens(2) });
  put("tick");
  put("failed", { what: "ticket", n: state.socket.n, problem: { ...BUSY, retry_after: 7 } });
  assert.equal(state.dial.at - now, 7000 + 500);
});
