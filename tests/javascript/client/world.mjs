// A model of one browser and its server for the client's core: tabs with one cookie jar, and whatever goes wrong between them.
import { initial, next, serving, step } from "../../../server/experience/client/source/core.js";

const LIFE_S = 300, GRACE_MS = 10_000, TIMEOUT_MS = 40_000;

const problem = (name, recovery, more) => ({ type: `urn:interlock:problem:${name}`, recovery, ...more });
const UNREACHABLE = problem("unreachable", "retry_later", { status: 0 });

/** The server: sessions, whose tokens are objects, and executions. */
class Server {
  sessions = new Map();
  executions = new Map();
  sockets = new Set();
  busy = 0;
  starts = 0;

  constructor(world) {
    this.world = world;
  }

  alive(id) {
    const session = this.sessions.get(id);
    return session && !session.reason ? session : undefined;
  }

  create() {
    const id = `s${this.sessions.size}`;
    const session = { id, state: "created", epoch: 0, used: 0, version: 1, stream: { epoch: `${id} ${this.starts}`, messages: [] } };
    this.sessions.set(id, session);
    return session;
  }

  end(id, reason) {
    const session = this.alive(id);
    if (!session) return;
    session.reason = reason;
    for (const socket of this.sockets) if (socket.id === id) this.close(socket, 4403, `session ended: ${reason}`);
  }

  close(socket, code, text) {
    this.sockets.delete(socket);
    socket.queue.push({ close: { code, text } });
  }

  /** The answer to a request that presents `jar`: tokens and the jar's cookie, or a problem. */
  answer(what, jar, token) {
    if (this.busy > 0) {
      this.busy--;
      return { problem: problem("unavailable", "retry_later", { retry_after: 1 }) };
    }
    const cookie = jar.cookie, session = this.alive(cookie?.id), old = session && cookie.epoch < session.epoch;
    switch (what) {
      case "begin":
        if (!old) return this.issue(session ?? this.create(), jar);
        if (this.world.time - session.at < GRACE_MS) return { problem: problem("token-expired", "refresh") };
        // The login's answer is lost. Nobody else can end that session, unless somebody uses its tokens.
        if (session.used < session.epoch) this.end(session.id, "replaced");
        return this.issue(this.create(), jar);
      case "refresh":
        if (!cookie) return { problem: problem("credential-missing", "log_in") };
        if (old) return { problem: problem("credential-invalid", "log_in") };
        if (!session) return { problem: problem("session-ended", "start_session", this.sessions.get(cookie.id)) };
        return this.issue(session, jar);
      case "login": {
        const mine = session ?? this.create();
        mine.epoch++;
        mine.at = this.world.time;
        for (const socket of this.sockets) if (socket.id === mine.id) this.close(socket, 4408, "token expired");
        if (mine.state === "created") mine.state = "authenticated";
        return this.issue(mine, jar);
      }
      case "logout":
        for (const id of [cookie?.id, token?.id, ...jar.markers]) this.end(id, "logout");
        return { cookie: null };
      case "ticket":
        return this.check(token) ?? { ticket: { id: token.id, used: (this.sessions.get(token.id).used = token.epoch) } };
      case "execution":
        return this.check(token) ?? { execution: this.executions.get(token.intent) };
    }
  }

  check(token) {
    const session = this.sessions.get(token.id);
    if (session.reason) return { problem: problem("session-ended", "start_session", { reason: session.reason }) };
    if (token.epoch < session.epoch || this.world.time >= token.until) return { problem: problem("token-expired", "refresh") };
  }

  issue(session, jar) {
    for (const id of [...jar.markers, jar.cookie?.id]) if (id && id !== session.id) this.end(id, "replaced");
    const { id, state, epoch } = session, until = this.world.time + LIFE_S * 1000;
    const access_token = { id, epoch, until };
    return {
      cookie: { id, epoch },
      tokens: { session_id: id, state, version: ++session.version, access_token, expires_in: LIFE_S },
    };
  }

  // WebSockets.
  connect(socket, ticket) {
    const session = this.alive(ticket.id);
    if (!session) return this.close(socket, 4403, `session ended: ${this.sessions.get(ticket.id).reason}`);
    this.sockets.add(socket);
    const { stream } = session, offset = stream.messages.length;
    Object.assign(socket, { id: session.id, place: offset, first: true });
    const limits = { message_bytes: 65_536, unanswered: 2 };
    socket.queue.push({
      message: { type: "hello", state: "connected", ping_interval_ms: 20_000, limits, stream: { epoch: stream.epoch, offset } },
    });
  }

  hear(socket, message) {
    if (!this.sockets.has(socket)) return;
    const { stream } = this.alive(socket.id), { id } = message, end = stream.messages.length;
    if (message.type === "resume") {
      const known = message.epoch === stream.epoch;
      socket.place = known ? message.offset : end;
      socket.queue.push({ message: { type: known ? "resumed" : "gap", epoch: stream.epoch, offset: socket.place } });
    } else if (message.type === "ping") socket.queue.push({ message: { type: "pong" } });
    else if (message.type === "refresh") {
      if (this.check(message.access_token)) return this.close(socket, 4408, "token expired");
      socket.queue.push({ message: { type: "refreshed" } });
    } else if (message.type === "intent" && this.busy > 0) {
      this.busy--;
      const refused = { type: "refused", intent_id: id, problem: problem("overloaded", "retry_later"), retry_after_s: 1 };
      socket.queue.push({ message: refused });
    } else if (message.type === "intent") {
      const execution = this.executions.get(id) ?? { intent_id: id, execution_id: `exe ${id}`, runs: 0, ended_at: null };
      execution.runs += this.executions.has(id) ? 0 : 1;
      this.executions.set(id, execution);
      stream.messages.push({ type: "accepted", ...execution });
      if (execution.ended_at) stream.messages.push({ type: "outcome", ...execution });
    }
    this.flush();
  }

  finish(execution) {
    if (execution.ended_at) return;
    Object.assign(execution, { ended_at: "now", state: "succeeded" });
    for (const { stream } of this.sessions.values()) {
      if (stream.messages.some((each) => each.intent_id === execution.intent_id)) stream.messages.push({ type: "outcome", ...execution });
    }
    this.flush();
  }

  flush() {
    for (const socket of this.sockets) {
      const { messages } = this.sessions.get(socket.id).stream;
      while (socket.place < messages.length) {
        const message = messages[socket.place++];
        socket.queue.push({ message: { ...message, offset: socket.place } });
      }
    }
  }

  restart() {
    this.starts++;
    for (const socket of [...this.sockets]) this.close(socket, 1001, "draining");
    for (const session of this.sessions.values()) session.stream = { epoch: `${session.id} ${this.starts}`, messages: [] };
  }
}

class Tab {
  settled = new Map();
  ended = [];
  refusals = 0;
  entering = false;
  refused = new Set();
  socket = null;

  constructor(world, random) {
    this.world = world;
    this.state = initial(random);
    this.put("begin");
  }

  put(type, more = {}) {
    this.last = this.state.id ?? this.last;
    for (const [what, ...values] of step(this.state, { type, ...more }, this.world.now)) this.outputs[what]?.(...values);
  }

  outputs = {
    call: (what, n) => {
      const { token } = this.state;
      if (what === "ticket" && this.refused.has(token)) throw new Error("N16: a refused token is tried again");
      this.world.ask(this, what, { n, token: what === "execution" ? { ...token, intent: n } : token });
    },
    tell: (message) => {
      for (const tab of this.world.tabs) if (tab !== this) this.world.radio.push({ tab, message });
    },
    socket: (n, ticket) => {
      this.socket = { tab: this, n, queue: [], token: this.state.token };
      this.world.sockets.push(this.socket);
      this.world.server.connect(this.socket, ticket);
    },
    send: (n, message) => this.world.server.hear(this.socket, message),
    close: () => this.world.server.sockets.delete(this.socket),
    ended: (reason) => this.ended.push({ id: this.last, reason, refused: this.refusals > 0, entering: this.entering }),
    outcome: (id) => this.settle(id, "outcome"),
    refused: (id) => this.settle(id, "refused"),
  };

  settle(id, how) {
    if (this.settled.has(id)) throw new Error(`N18: ${id} is settled twice`);
    this.settled.set(id, how);
  }
}

export class World {
  time = 1_000_000_000;
  skew = 0;
  jar = { cookie: null, markers: new Set() };
  tabs = [];
  air = [];
  radio = [];
  sockets = [];
  intents = 0;
  server = new Server(this);

  constructor(random) {
    this.random = random;
  }

  /** What the browser's clock says. The server's is right. */
  get now() {
    return this.time + this.skew;
  }

  ask(tab, what, { n, token }) {
    const answer = this.server.answer(what, this.jar, token);
    this.air.push({ tab, what, n, token, answer, at: this.time });
  }

  /** Let an answer arrive. A doubled one arrives again, later; but the page itself waits for that of a login, once. */
  deliver(call, doubled) {
    if (!doubled || call.what === "login") this.air.splice(this.air.indexOf(call), 1);
    const { tab, what, n, token, answer } = call, { tokens, cookie, problem, ticket, execution } = answer;
    if (cookie) {
      this.jar.cookie = cookie;
      this.jar.markers.add(cookie.id);
    }
    if (what === "logout") {
      if (!problem) this.jar.cookie = null;
      if (!problem) tab.put("over", { id: token?.id, problem: { reason: "logout", type: "" } });
    } else if (problem) {
      // An answer that comes after the tab has given up tells it nothing.
      if (problem.recovery !== "retry_later" && what === "ticket" && tab.state.socket?.n === n) tab.refused.add(token);
      if (["log_in", "start_session"].includes(problem.recovery)) tab.refusals++;
      if (what !== "login") tab.put("failed", { what, ...(what === "execution" ? { id: n } : { n }), problem });
    } else if (ticket) tab.put("ticket", { n, ticket });
    else if (execution) tab.put("execution", { id: n, execution });
    else tab.put("tokens", { ...(what !== "login" && { what, n }), tokens });
    if (what === "login") tab.entering = false;
  }

  lose(call) {
    this.air.splice(this.air.indexOf(call), 1);
    const { tab, what, n } = call;
    if (what === "login") tab.entering = false;
    if (what !== "logout" && what !== "login") tab.put("failed", { what, ...(what === "execution" ? { id: n } : { n }), problem: UNREACHABLE });
  }

  hear(news) {
    this.radio.splice(this.radio.indexOf(news), 1);
    news.tab.put("heard", { message: news.message });
  }

  receive(socket) {
    const next = socket.queue.shift();
    if (!next) return;
    const { n, tab, token } = socket;
    if (next.message) return tab.put("message", { n, message: next.message });
    if ([1008, 4401, 4403, 4408].includes(next.close.code) && tab.state.socket?.n === n) tab.refused.add(token);
    tab.put("close", { n, ...next.close });
  }

  cut(socket) {
    this.server.sockets.delete(socket);
    socket.queue = [{ close: { code: 1006, text: "" } }];
  }

  pass(ms) {
    this.time += ms;
    // A page gives a request up that takes too long.
    for (const call of this.air.filter(({ at }) => this.time - at > TIMEOUT_MS)) this.lose(call);
    for (const tab of this.tabs) tab.put("tick");
  }

  /** Let everything arrive, and time pass, until nobody waits for anything but the next refresh. */
  settle() {
    for (let round = 0; round < 300; round++) {
      for (let calls = 0; this.air.length; calls++) {
        if (calls > 1000) throw new Error("N16: it asks without end");
        this.deliver(this.air[0]);
      }
      while (this.radio.length) this.hear(this.radio[0]);
      for (const socket of this.sockets) while (socket.queue.length) this.receive(socket);
      for (const execution of this.server.executions.values()) this.server.finish(execution);
      if (this.air.length || this.radio.length || this.sockets.some(({ queue }) => queue.length)) continue;
      const due = Math.min(...this.tabs.map(({ state }) => next(state))) - this.now;
      if (due > 45_000 || this.tabs.every((tab) => this.rests(tab))) return;
      this.pass(Math.max(1, due));
    }
    throw new Error("N16: it never comes to rest");
  }

  rests({ state }) {
    const pending = [...state.intents.values()].some((each) => each.wait || !each.sent);
    return !state.asking && !state.ask && !state.dial && (!state.socket || (state.socket.open && !pending));
  }
}

export { Tab, serving };
