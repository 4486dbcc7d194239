// Which sessions are in use here, which tokens were found good, and an end to what is open when its session ends.

const CLOSES = {
  session_ended: (reason) => [4403, `session ended: ${reason}`],
  token_expired: [4408, "token expired"],
  not_authenticated: (reason) => [4401, `not authenticated: ${reason}`],
  overloaded: [1013, "overloaded"],
};
const DENIALS = {
  missing: [401, "credential-missing", "No credential", "log_in", CLOSES.not_authenticated("no access token")],
  // A client that can't refresh learns there why: the session has ended, or the token never was one.
  notCurrent: [401, "token-expired", "The access token is no longer current", "refresh", CLOSES.token_expired],
  anonymous: [
    403,
    "login-required",
    "The session is anonymous",
    "log_in",
    CLOSES.not_authenticated("the session is anonymous"),
  ],
  unknown: [503, "overloaded", "Nobody knows whether the session lives", "retry_later", CLOSES.overloaded],
};
const CACHE_SIZE = 10_000;
// Anybody can make up tokens: more than so many are not asked about at once.
const ASKED_AT_ONCE = 64;
const RETRY_MS = 2000;
const FIRST_WORD_MS = 5000;
const CALL_MS = 5000;
const CLOSE_MS = 3000;
const LOOK_MS = 500;

export class Refused extends Error {
  constructor([status, name, title, recovery, close]) {
    super(title);
    this.status = status;
    this.close = close;
    this.problem = { type: `urn:interlock:problem:${name}`, title, status, recovery };
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref());
const now = () => performance.now();

export function follow(options) {
  const sessions = new Sessions(options);
  sessions.start();
  return sessions;
}

class Sessions {
  #url;
  #client;
  #subscriber;
  #allowAnonymous;
  #staleMs;
  #cacheMs;
  #uses = new Map(); // session id → its uses
  #found = new Map(); // token → its session, and until when that may be believed; the least recently used first
  #tokens = new Map(); // session id → its tokens in #found
  #asked = 0;
  #heardAt = -Infinity;
  #last = null;
  #stopped = new AbortController();
  #hear = () => {};
  #firstWord = new Promise((resolve) => (this.#hear = resolve));

  constructor({ url, client, subscriber, allowAnonymous = false, staleAfterS = 60, cacheS = 10 }) {
    this.#url = url.replace(/\/$/, "");
    const name = client.replace(/^ilk_client_/, "").slice(0, -44);
    this.#client = `Basic ${Buffer.from(`${name}:${client}`).toString("base64")}`;
    this.#subscriber = `Bearer ${subscriber}`;
    this.#allowAnonymous = allowAnonymous;
    this.#staleMs = staleAfterS * 1000;
    this.#cacheMs = cacheS * 1000;
  }

  start() {
    this.#followForEver();
    const watching = setInterval(() => this.#following() || this.#endAll(), LOOK_MS).unref();
    this.#stopped.signal.addEventListener("abort", () => clearInterval(watching));
  }

  close() {
    this.#stopped.abort();
  }

  guard = async (socket, request) => {
    socket.pause?.();
    const end = (close) => {
      // What a client sends after the end is not for the application.
      socket.removeAllListeners?.("message");
      socket.resume?.();
      socket.close(...close);
      setTimeout(() => socket.terminate?.(), CLOSE_MS).unref();
    };
    // An application that listens to errors hears of them, too; without a listener they would end the process.
    socket.on("error", () => {});
    const over = new Promise((resolve) => socket.on("close", resolve));
    try {
      await this.#followed();
      const { use, session } = await this.#admit(tokenOf(request), end);
      over.then(() => this.#leave(use));
      setImmediate(() => socket.resume?.());
      return session;
    } catch (error) {
      end(error instanceof Refused ? error.close : [1011, "internal error"]);
      return null;
    }
  };

  middleware = async (request, response, next) => {
    const end = () => {
      const started = response.headersSent && !response.writableEnded;
      if (started) response.destroy();
      // A response that is whole may still go out; a stream may not begin.
      else response.write = () => (response.destroy(), false);
    };
    const over = new Promise((resolve) => response.on("close", resolve));
    try {
      const { use, session } = await this.#admit(tokenOf(request), end);
      over.then(() => this.#leave(use));
      request.interlock = session;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      response.writeHead(error.status, headersOf(error)).end(JSON.stringify(error.problem));
      return;
    }
    next();
  };

  async #admit(token, onEnd) {
    if (token === null) throw new Refused(DENIALS.missing);
    // Registered before the check: an end that comes meanwhile finds the use.
    const use = { sessionId: claimedSession(token), ended: false, onEnd: () => {} };
    if (!this.#uses.has(use.sessionId)) this.#uses.set(use.sessionId, new Set());
    this.#uses.get(use.sessionId).add(use);
    try {
      let session = this.#cached(token);
      if (session === null) {
        session = await this.#introspected(token);
        if (session.sessionId !== use.sessionId) throw new Refused(DENIALS.notCurrent);
        if (!use.ended) this.#keep(token, session);
      }
      if (use.ended) throw new Refused(DENIALS.notCurrent);
      if (session.subject.startsWith("anonymous:") && !this.#allowAnonymous) throw new Refused(DENIALS.anonymous);
      use.onEnd = onEnd;
      return { use, session };
    } catch (error) {
      this.#leave(use);
      throw error;
    }
  }

  #leave(use) {
    const uses = this.#uses.get(use.sessionId);
    uses?.delete(use);
    if (uses?.size === 0) this.#uses.delete(use.sessionId);
  }

  async #introspected(token) {
    if (this.#asked >= ASKED_AT_ONCE) throw new Refused(DENIALS.unknown);
    let found;
    this.#asked += 1;
    try {
      const answer = await fetch(`${this.#url}/oauth/introspect`, {
        method: "POST",
        headers: { authorization: this.#client },
        body: new URLSearchParams({ token }),
        signal: AbortSignal.timeout(CALL_MS),
      });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      found = await answer.json();
      if (found?.active !== false && typeof found?.sub !== "string") throw new Error("the answer says nothing of it");
    } catch (error) {
      console.error(`interlock: a token can't be introspected: ${error.message}`);
      throw new Refused(DENIALS.unknown);
    } finally {
      this.#asked -= 1;
    }
    if (!found.active || found.token_type !== "Bearer") throw new Refused(DENIALS.notCurrent);
    return { sessionId: found.sid, subject: found.sub, state: found.session_state, tokenExpiresAt: found.exp };
  }

  #cached(token) {
    const found = this.#found.get(token);
    if (!found || now() >= found.until || Date.now() / 1000 >= found.session.tokenExpiresAt) return null;
    this.#found.delete(token);
    this.#found.set(token, found);
    return found.session;
  }

  #keep(token, session) {
    if (!this.#following()) return;
    this.#found.set(token, { session, until: now() + this.#cacheMs });
    if (!this.#tokens.has(session.sessionId)) this.#tokens.set(session.sessionId, new Set());
    this.#tokens.get(session.sessionId).add(token);
    if (this.#found.size <= CACHE_SIZE) return;
    const [oldest, { session: its }] = this.#found.entries().next().value;
    this.#found.delete(oldest);
    const tokens = this.#tokens.get(its.sessionId);
    tokens.delete(oldest);
    if (tokens.size === 0) this.#tokens.delete(its.sessionId);
  }

  #distrust() {
    this.#found.clear();
    this.#tokens.clear();
  }

  #end(sessionId, reason) {
    for (const token of this.#tokens.get(sessionId) ?? []) this.#found.delete(token);
    this.#tokens.delete(sessionId);
    this.#endUses(this.#uses.get(sessionId) ?? [], CLOSES.session_ended(reason));
  }

  /** End everything in use, because nobody knows whether its sessions live. */
  #endAll() {
    this.#distrust();
    this.#endUses([...this.#uses.values()].flatMap((uses) => [...uses]), CLOSES.overloaded);
  }

  #endUses(uses, close) {
    for (const use of [...uses].filter((each) => !each.ended)) {
      use.ended = true;
      use.onEnd(close);
    }
  }

  #following() {
    return now() < this.#heardAt + this.#staleMs;
  }

  async #followed() {
    if (!this.#following()) await Promise.race([this.#firstWord, wait(FIRST_WORD_MS)]);
    if (!this.#following()) throw new Refused(DENIALS.unknown);
  }

  async #followForEver() {
    while (!this.#stopped.signal.aborted) {
      try {
        await this.#followOnce();
      } catch (error) {
        if (!this.#stopped.signal.aborted) console.error(`interlock: the ends of sessions don't arrive: ${error.message}`);
      }
      this.#distrust();
      await wait(Math.random() * RETRY_MS);
    }
  }

  async #followOnce() {
    const headers = { authorization: this.#subscriber };
    if (this.#last !== null) headers["last-event-id"] = this.#last;
    // A stream without two of its heartbeats is broken: there is time to try another before everything ends.
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(new Error("silence")), this.#staleMs / 2);
    try {
      const signal = AbortSignal.any([silence.signal, this.#stopped.signal]);
      const answer = await fetch(`${this.#url}/api/events/stream`, { headers, signal });
      if (answer.status === 400 && this.#last !== null) {
        // The log was restored to an earlier time: nobody knows what has ended since.
        this.#last = null;
        this.#endAll();
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      // The page of a proxy, say. Read as a stream it would count as the server's word.
      const type = answer.headers.get("content-type") ?? "";
      if (!type.startsWith("text/event-stream")) throw new Error("the answer is no stream of events");
      for await (const message of messagesOf(answer.body)) {
        timer.refresh();
        this.#heardAt = now();
        if (message.event) return;
        if (message.data) this.#take(message.data);
        this.#last = message.id ?? this.#last;
        this.#hear();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(text) {
    const about = eventIn(text);
    if (about === null) {
      console.error("interlock: an event can't be read, and may be an end");
      this.#endAll();
    } else if (about.kind === "session" && about.state === "expired") {
      this.#end(about.instance_id, about.reason ?? about.event);
    }
  }
}

/** Return what the message of an event tells, or null if it can't be read. */
function eventIn(text) {
  try {
    const about = JSON.parse(text).data;
    return [about.kind, about.state, about.instance_id].every((each) => typeof each === "string") ? about : null;
  } catch {
    return null;
  }
}

/** Yield the fields of each message that has arrived whole. */
async function* messagesOf(body) {
  const decoder = new TextDecoder();
  let rest = "";
  let fields = {};
  for await (const piece of body) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name) fields[name] = value;
      if (line) continue;
      yield fields;
      fields = {};
    }
  }
}

/** Return the bearer token of a request, or that among the subprotocols of a WebSocket, or null. */
function tokenOf({ headers }) {
  const bearer = /^bearer +(.*)$/i.exec(headers.authorization ?? "");
  if (bearer) return bearer[1];
  const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((each) => each.trim());
  return offered.find((each) => each.startsWith("bearer."))?.slice("bearer.".length) ?? null;
}

/** Return the session that a token names. Whether that is true the introspection says. */
function claimedSession(token) {
  try {
    const { sid } = JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());
    if (typeof sid === "string") return sid;
  } catch {
    // as below
  }
  throw new Refused(DENIALS.notCurrent);
}

function headersOf({ status }) {
  const headers = { "content-type": "application/problem+json", "cache-control": "no-store" };
  if (status === 401) headers["www-authenticate"] = 'Bearer realm="interlock"';
  if (status === 503) headers["retry-after"] = "5";
  return headers;
}
