// The client's state machine, without I/O: `step` handles one input and returns what interlock.js has to do. Times in ms.
import {
  ASK_USER, CLOSES, CREDENTIAL_INVALID, FIX_CLIENT, LOG_IN, MESSAGE_BYTES, NONE, RECONNECT, REFRESH, RETRY_LATER,
  SERVING, SESSION_ENDED, START_SESSION, TOO_LARGE,
} from "./declared.js";

const ENDS = [LOG_IN, START_SESSION], FIRST = 500, MOST = 30_000, STEADY = 60_000, HANDSHAKE = 30_000, WAKE = 10_000;

// What a tab knows that has no session. `dead` are the sessions that have ended: their late answers are dropped.
export const initial = (random = Math.random, dead = new Set(), count = 0) => ({
  random, dead, count, id: null, state: null, token: null, version: 0, until: 0, life: 0, asking: 0, asker: null, doubt: false, ask: null,
  askBound: FIRST, refresh: null, wanted: false, socket: null, dial: null, dialBound: FIRST, tried: false, place: null, intentBound: FIRST, intents: new Map(),
});

export const serving = (s) => SERVING.includes(s.state);

export const fresh = (s, now) => s.until - now > Math.min(10_000, s.life / 10);

export const endedBy = (reason) => ({ type: SESSION_ENDED, title: "The session has ended", recovery: START_SESSION, reason });

export function step(s, input, now) {
  const out = [];
  const emit = (...output) => void out.push(output);
  const after = (wait, what) => ({ at: now + wait, wait, what });
  // A wait that is longer than it was is over: the clock was set back.
  const over = (timer) => timer && (now >= timer.at || timer.at - now > timer.wait);
  const backOff = (bound, { retry_after = 0 }) => {
    const wait = retry_after * 1000 + s.random() * s[bound];
    s[bound] = Math.min(MOST, s[bound] * 2);
    return wait;
  };
  const send = (message) => emit("send", s.socket.n, message);
  const reasonOf = ({ reason, type }) => reason ?? type.split(":").pop();

  const ask = (what) => {
    s.ask = null;
    if (s.asking) return;
    s.asker = s.id;
    emit("call", what, (s.asking = ++s.count));
  };
  // `quiet`: nobody is to be told. Only the server's word that a session has ended is proof for other tabs.
  const end = (reason, quiet) => {
    const { id, socket, intents } = s, begins = s.asking && !serving(s);
    if (socket) emit("close", socket.n);
    if (!quiet) {
      s.dead.add(id);
      emit("tell", { ended: id, reason });
    }
    Object.assign(s, initial(s.random, s.dead, s.count));
    for (const each of intents.keys()) emit("refused", each, endedBy(reason));
    emit("ended", reason);
    if (begins) ask("begin");
  };
  const finish = (problem) => {
    s.wanted = false;
    for (const id of s.intents.keys()) refuse(id, problem);
    emit("closed", problem);
  };

  const adopt = (tokens, heard) => {
    const { session_id: id, state, version, access_token: token, expires_in } = tokens;
    if (s.dead.has(id) || (s.id === id && version <= s.version)) return;
    if (serving(s) && s.id !== id) end("replaced", true);
    const entered = !serving(s), life = expires_in * 1000, until = tokens.until ?? now + life;
    Object.assign(s, { id, state, token, version, life, until, ask: null, askBound: FIRST, doubt: false });
    s.refresh = after(until - now - life * (0.2 + 0.2 * s.random()));
    if (!heard) emit("tell", { ...tokens, until });
    emit("tokens");
    if (serving(s) && entered) emit("login");
    if (s.dial?.what) s.dial = after(0);
    renew();
  };
  // Keep the open socket, if its token ends earlier than ours.
  const renew = () => {
    const { socket, until } = s;
    if (!socket?.open || socket.sent || until - socket.until <= s.life / 10) return;
    socket.sent = until;
    send({ type: "refresh", access_token: s.token });
  };
  const distrust = (until) => {
    if (s.until <= until) s.until = 0;
  };
  const failed = (what, problem) => {
    const { recovery } = problem;
    if (recovery === RETRY_LATER) s.ask = after(backOff("askBound", problem), what);
    else if (recovery === REFRESH || (what === REFRESH && !s.doubt && ENDS.includes(recovery))) {
      // Another tab logs in or out, or has just done so: then the browser has another cookie soon.
      s.doubt = recovery !== REFRESH;
      s.ask = after(1000, what);
    } else if (what === REFRESH && ENDS.includes(recovery)) return end(reasonOf(problem), true);
    else {
      s.refresh = null;
      if (s.wanted) finish(problem);
    }
    emit("stale", problem);
  };

  const dial = () => {
    s.dial = null;
    if (!s.wanted || s.socket || !serving(s)) return;
    if (fresh(s, now)) {
      s.socket = { n: ++s.count, until: s.until, heard: now, ping: after(HANDSHAKE) };
      emit("call", "ticket", s.count);
    } else {
      s.dial = { at: Infinity, wait: Infinity, what: REFRESH };
      if (!s.ask) ask(REFRESH);
    }
  };
  // The connection, or the attempt at one, has ended.
  const recover = (action, problem) => {
    const { until } = s.socket;
    s.socket = null;
    for (const intent of s.intents.values()) if (!intent.execution_id) intent.sent = false;
    const renews = action === LOG_IN || action === REFRESH, again = renews && !s.tried;
    if (action === START_SESSION) return end(reasonOf(problem));
    if (action === LOG_IN && s.tried) return end(reasonOf({ type: CREDENTIAL_INVALID }), true);
    if (!renews && action !== RECONNECT) return finish(problem);
    if (renews) distrust(until);
    s.tried ||= renews;
    s.dial = after(again ? 0 : backOff("dialBound", problem));
    emit("down", problem, s.dial.at);
  };
  const lost = (code, text) => {
    const { open, since } = s.socket;
    if (open && now - since >= STEADY) s.dialBound = FIRST;
    const action = CLOSES[code] ?? RECONNECT;
    recover(action, { type: `close:${code}`, title: text, code, recovery: action, reason: text.split(": ").pop() });
  };

  const settle = (id, outcome) => s.intents.delete(id) && emit("outcome", id, outcome);
  const refuse = (id, problem) => s.intents.delete(id) && emit("refused", id, problem);
  // Send the intents and cancels that wait, as many as the server allows, once the stream is where it was before the connection.
  const pump = () => {
    const { socket, place } = s;
    if (!socket?.open || socket.resuming || place.offset < socket.target) return;
    const waiting = [...s.intents.values()].filter((each) => !each.wait);
    let unanswered = [...s.intents.values()].filter((each) => each.sent && !each.execution_id).length;
    for (const each of waiting) {
      const { id, name, parameters, execution_id } = each;
      if (execution_id) {
        if (each.cancel && each.cancelled !== socket.n) send({ type: "cancel", execution_id });
        each.cancelled = socket.n;
      } else if (!each.sent && unanswered++ < socket.limit) {
        each.sent = true;
        send({ type: "intent", id, name, parameters });
      }
    }
  };
  const resubmit = (id) => {
    Object.assign(s.intents.get(id) ?? {}, { execution_id: null, sent: false });
    pump();
  };
  const inStream = (message) => {
    const { intent_id: id, execution_id, attempt, offset, data } = message, intent = s.intents.get(id);
    if (s.socket.resuming) return;
    s.place.offset = offset;
    if (intent) {
      intent.execution_id = execution_id;
      if (message.state) settle(id, message);
      else if (!data) emit("accepted", id, message);
      else if (attempt >= intent.attempt) emit("progress", id, data, (intent.attempt = attempt));
    }
    pump();
  };
  const placed = ({ epoch, offset }) => {
    s.socket.resuming = false;
    s.place = { epoch, offset };
  };
  const messages = {
    hello(hello) {
      const { stream, limits, ping_interval_ms: every, state } = hello, target = stream.epoch === s.place?.epoch ? stream.offset : 0;
      Object.assign(s.socket, { open: true, since: now, every, limit: limits.unanswered, target, resuming: s.place });
      Object.assign(s, { state, tried: false, intentBound: FIRST });
      if (s.place) send({ type: "resume", ...s.place });
      else s.place = { ...stream };
      emit("open", hello);
      renew();
      pump();
    },
    resumed(message) {
      placed(message);
      pump();
    },
    gap(message) {
      placed(message);
      s.socket.target = 0;
      for (const each of s.intents.values()) {
        if (each.execution_id) emit("call", "execution", each.id, each.execution_id);
        else each.sent = false;
      }
      pump();
    },
    accepted: inStream,
    progress: inStream,
    outcome: inStream,
    refused({ intent_id, execution_id, problem, retry_after_s: retry_after }) {
      const intent = [...s.intents.values()].find((each) => each.id === intent_id || each.execution_id === (execution_id ?? 0));
      if (intent && problem.recovery === RETRY_LATER) {
        Object.assign(intent, { sent: false, cancelled: 0, wait: after(backOff("intentBound", { retry_after })) });
      } else refuse(intent_id, { ...problem, retry_after });
      pump();
    },
    refreshed() {
      s.socket.until = s.socket.sent;
      s.socket.sent = 0;
    },
    transition(message) {
      s.state = message.target;
      emit("transition", message);
    },
  };

  const inputs = {
    begin: () => ask("begin"),
    need: () => serving(s) && !fresh(s, now) && !s.ask && ask(REFRESH),
    // The server has refused this token: it is no longer current.
    expired: ({ token }) => token === s.token && distrust(s.until),
    over: ({ id, problem }) => id === s.id && end(reasonOf(problem)),
    tokens({ what, n, tokens }) {
      if (what && n !== s.asking) return;
      if (what) s.asking = 0;
      // The answer to a request from before this session began. To one from after that, the server has ended this session.
      if (what && serving(s) && tokens.session_id !== s.id && s.asker !== s.id) ask(REFRESH);
      else adopt(tokens);
      if (what && s.dead.has(tokens.session_id)) s.ask = after(backOff("askBound", {}), "begin");
    },
    failed({ what, n, id, problem }) {
      if (n && n === s.asking) {
        s.asking = 0;
        failed(what, problem);
      } else if (n && n === s.socket?.n) {
        recover(problem.recovery === RETRY_LATER ? RECONNECT : problem.recovery, problem);
      } else if (id && problem.recovery === RETRY_LATER) resubmit(id);
      else refuse(id, problem);
    },
    // Another tab has tokens, or knows that a session has ended.
    heard({ message }) {
      const { ended, reason, session_id, state } = message;
      if (ended) {
        s.dead.add(ended);
        if (ended === s.id) end(reason, true);
      } else if (session_id === s.id) adopt(message, true);
      else if (!s.dead.has(session_id) && (serving(s) || serving({ state }))) ask(serving(s) ? REFRESH : "begin");
    },
    connect() {
      s.wanted = true;
      if (!s.dial) dial();
    },
    disconnect() {
      if (s.socket) emit("close", s.socket.n);
      s.socket = s.dial = null;
      if (s.wanted) finish({ type: "close:1000", title: "bye", code: 1000, recovery: NONE });
    },
    ticket: ({ n, ticket }) => n === s.socket?.n && emit("socket", n, ticket),
    message({ n, message }) {
      if (n !== s.socket?.n) return;
      Object.assign(s.socket, { heard: now, ping: null });
      messages[message.type]?.(message);
    },
    close: ({ n, code, text }) => n === s.socket?.n && lost(code, text),
    intent({ id, name, parameters }) {
      const { length } = new TextEncoder().encode(JSON.stringify({ type: "intent", id, name, parameters }));
      s.intents.set(id, { id, name, parameters, attempt: 0 });
      if (length > MESSAGE_BYTES) refuse(id, { type: TOO_LARGE, title: `The intent has ${length} bytes` });
      pump();
    },
    forget: ({ id }) => s.intents.delete(id),
    cancel({ id }) {
      Object.assign(s.intents.get(id) ?? {}, { cancel: true, cancelled: 0 });
      pump();
    },
    // What HTTP says of an execution after a gap. If it has not ended, its outcome follows once the intent is sent again.
    execution({ id, execution }) {
      if (execution.ended_at) settle(id, execution);
      else resubmit(id);
    },
    // The page is shown, thawed or online again: don't wait, and see whether the connection is alive.
    wake() {
      for (const timer of [s.ask, s.dial]) if (timer && !timer.what) timer.at = now;
      if (s.ask) s.ask.at = now;
      if (s.socket?.open) {
        s.socket.ping ??= after(WAKE);
        send({ type: "ping" });
      }
      inputs.tick();
    },
    tick() {
      const { socket } = s;
      if (over(s.ask)) ask(s.ask.what);
      if (over(s.refresh)) {
        s.refresh = null;
        if (serving(s) && !s.ask) ask(REFRESH);
      }
      if (over(s.dial)) dial();
      for (const each of s.intents.values()) if (over(each.wait)) each.wait = null;
      if (over(socket?.ping)) {
        emit("close", socket.n);
        lost(1006, "");
      } else if (socket?.open && !socket.ping && (now < socket.heard || now - socket.heard >= socket.every)) {
        socket.ping = after(socket.every);
        send({ type: "ping" });
      }
      pump();
    },
  };
  inputs[input.type](input);
  return out;
}

// When the next `tick` is due.
export function next(s) {
  const timers = [s.ask, s.refresh, s.dial, s.socket?.ping, ...[...s.intents.values()].map((each) => each.wait)];
  const { open, ping, heard, every } = s.socket ?? {};
  return Math.min(...timers.map((timer) => timer?.at ?? Infinity), open && !ping ? heard + every : Infinity);
}
