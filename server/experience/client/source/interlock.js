// Sessions in the browser. `open` is the way in; interlock.d.ts says what each part does.
import { endedBy, fresh, initial, next, step } from "./core.js";
import { CREDENTIAL_INVALID, FIX_REQUEST, PROBLEM, PROTOCOL, REFRESH, RETRIED, RETRY_LATER, START_SESSION } from "./declared.js";

export class Problem extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    Object.assign(this, problem, { name: "Problem" });
  }
}

const deferred = () => {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  it.promise.catch(() => {});
  return it;
};

const abortable = async (promise, signal) => {
  if (!signal) return promise;
  signal.throwIfAborted();
  const aborted = deferred();
  signal.addEventListener("abort", () => aborted.reject(signal.reason), { once: true });
  return Promise.race([promise, aborted.promise]);
};

const target = (methods) => Object.assign(new EventTarget(), methods);

export async function open({ url = new URL("..", import.meta.url), signal } = {}) {
  const s = initial(), gone = new AbortController(), runs = new Map(), channel = new BroadcastChannel(`interlock ${url}`);
  let timer, session = null, ended, entered = deferred(), usable = deferred(), entering = null, socket = null, opened, closed, wire;

  const tell = (on, type, detail) => on?.dispatchEvent(new CustomEvent(type, { detail }));
  const put = (type, more) => {
    if (gone.signal.aborted) return;
    for (const [what, ...values] of step(s, { type, ...more }, Date.now())) effects[what](...values);
    if (session && session.state !== s.state) tell(session, "state", (session.state = s.state));
    clearTimeout(timer);
    timer = setTimeout(put, Math.max(0, Math.min(next(s) - Date.now(), 2 ** 31 - 1)), "tick");
  };

  const request = async (method, path, { body, token, signal } = {}) => {
    let response, said;
    try {
      const headers = { ...(body && { "Content-Type": "application/json" }), ...(token && { Authorization: `Bearer ${token}` }) };
      const signals = [AbortSignal.timeout(30_000), ...(signal ? [signal] : [])];
      response = await fetch(new URL(path, url), {
        method, headers, credentials: "include", body: body && JSON.stringify(body), signal: AbortSignal.any(signals),
      });
      // A page of a proxy, whatever its status, is no answer of the server.
      const readable = response.ok || response.headers.get("Content-Type")?.startsWith("application/problem+json");
      said = await response.text();
      said = readable && said && JSON.parse(said);
    } catch (error) {
      signal?.throwIfAborted();
      throw new Problem({ type: PROBLEM + "unreachable", title: "The server can't be reached", status: 0, recovery: RETRY_LATER, cause: error });
    }
    const { ok, status, statusText, headers } = response;
    if (ok) return said;
    const problem = { type: PROBLEM + status, title: statusText, status, recovery: status > 499 || RETRIED.includes(status) ? RETRY_LATER : FIX_REQUEST };
    throw new Problem({ ...problem, ...said, retry_after: Number(headers.get("Retry-After")) || 0 });
  };
  const living = async (own) => {
    if (own !== session) throw new Problem(endedBy((await own.ended).reason));
  };
  const current = async (own, signal) => {
    await living(own);
    put("need");
    if (!fresh(s, Date.now())) await abortable(usable.promise, signal);
    return s.token;
  };
  const call = async (own, method, path, { body, signal } = {}) => {
    for (let again = false; ; again = true) {
      const token = await current(own, signal), { id } = s;
      try {
        return await request(method, path, { body, token, signal });
      } catch (problem) {
        if (problem.recovery === START_SESSION) put("over", { id, problem });
        if (again || (problem.recovery !== REFRESH && problem.type !== CREDENTIAL_INVALID)) throw problem;
        put("expired", { token });
      }
    }
  };
  const calls = {
    begin: () => request("POST", "api/session"),
    refresh: () => request("POST", "api/auth/refresh"),
    ticket: () => request("POST", "api/session/ticket", { token: s.token }),
    execution: (id) => call(session, "GET", `api/executions/${id}`),
  };
  // One at a time, so that a second click on the button finds the session of the first.
  const enter = (path) => async (body, { signal } = {}) => {
    while (entering) await abortable(entering, signal);
    const asked = request("POST", path, { body, signal });
    entering = asked.then(() => {}, () => {}).then(() => (entering = null));
    const tokens = await asked;
    put("tokens", { tokens });
    if (s.id !== tokens.session_id) throw new Problem(endedBy("replaced"));
    return session;
  };

  const effects = {
    async call(what, n, id) {
      try {
        const answer = await calls[what](id);
        if (what === "execution") put(what, { id: n, execution: answer });
        else if (what === "ticket") put(what, { n, ticket: answer.ticket });
        else put("tokens", { what, n, tokens: answer });
      } catch (problem) {
        put("failed", { what, ...(what === "execution" ? { id: n } : { n }), problem });
      }
    },
    tell: (message) => channel.postMessage(message),
    socket(n, ticket) {
      const to = new URL("api/connect", url);
      to.protocol = to.protocol.replace("http", "ws");
      wire = new WebSocket(to, [PROTOCOL, `ticket.${ticket}`]);
      wire.onmessage = ({ data }) => put("message", { n, message: JSON.parse(data) });
      wire.onclose = ({ code, reason }) => put("close", { n, code, text: reason });
    },
    send: (n, message) => wire.send(JSON.stringify(message)),
    close: () => wire?.close(1000),
    tokens() {
      usable.resolve();
      usable = deferred();
    },
    stale(problem) {
      usable.reject(problem);
      usable = deferred();
      tell(session ?? visitor, "trouble", problem);
    },
    login() {
      ended = deferred();
      visitor.session = session = sessionOf(s.id, s.state, ended.promise);
      entered.resolve(session);
      tell(visitor, "login", session);
    },
    ended(reason) {
      const problem = new Problem(endedBy(reason)), was = session;
      usable.reject(problem);
      usable = deferred();
      if (socket) effects.closed(problem);
      if (!was) return;
      visitor.session = session = null;
      entered = deferred();
      was.state = "expired";
      tell(was, "state", was.state);
      ended.resolve({ reason });
      tell(visitor, "ended", { reason });
    },
    open(hello) {
      opened.resolve(socket);
      tell(socket, "open", hello);
    },
    down: (problem, at) => tell(socket, "down", { ...problem, at }),
    closed(problem) {
      const was = socket;
      socket = null;
      opened.reject(new Problem(problem));
      closed.resolve(problem);
      tell(was, "closed", problem);
    },
    transition: (transition) => tell(socket, "transition", transition),
    accepted: (id, accepted) => runs.get(id)?.accepted(accepted),
    progress: (id, parts, attempt) => runs.get(id)?.progress(parts, attempt),
    outcome: (id, outcome) => runs.get(id)?.outcome(outcome),
    refused: (id, problem) => runs.get(id)?.refused(new Problem(problem)),
  };

  const intent = (own, name, parameters = {}, { id = crypto.randomUUID(), signal } = {}) => {
    if (runs.has(id)) return runs.get(id).run;
    const accepted = deferred(), outcome = deferred();
    let parts = [], done = false, news = deferred();
    const turn = () => {
      news.resolve();
      news = deferred();
    };
    const finish = () => {
      done = true;
      runs.delete(id);
      turn();
    };
    const run = {
      id,
      attempt: 0,
      accepted: accepted.promise,
      outcome: outcome.promise,
      cancel: () => put("cancel", { id }),
      progress: {
        async *[Symbol.asyncIterator]() {
          for (let read = parts, at = 0; ; ) {
            if (read !== parts) [read, at] = [parts, 0];
            if (at < read.length) yield read[at++];
            else if (done) return void (await outcome.promise);
            else await news.promise;
          }
        },
      },
    };
    const refused = (problem) => {
      accepted.reject(problem);
      outcome.reject(problem);
      finish();
    };
    runs.set(id, {
      run,
      accepted: (message) => accepted.resolve(message),
      progress(more, attempt) {
        // A crash made the execution begin again: what it said before does not count.
        if (attempt > run.attempt) parts = [];
        run.attempt = attempt;
        parts.push(...more);
        turn();
      },
      outcome(message) {
        accepted.resolve(message);
        outcome.resolve(message);
        finish();
      },
      refused,
    });
    const abort = () => {
      put("forget", { id });
      refused(signal.reason);
    };
    if (signal?.aborted) abort();
    else if (own !== socket) own.closed.then((problem) => refused(new Problem(problem)));
    else {
      signal?.addEventListener("abort", abort, { once: true });
      put("intent", { id, name, parameters });
    }
    return run;
  };

  const sessionOf = (id, state, ended) => {
    const own = target({
      id,
      state,
      ended,
      login: (...values) => visitor.login(...values),
      async connect({ signal } = {}) {
        await living(own);
        if (!socket) {
          [opened, closed] = [deferred(), deferred()];
          const mine = target({
            intent: (...values) => intent(mine, ...values),
            close: () => mine === socket && put("disconnect"),
            closed: closed.promise,
          });
          socket = mine;
          put("connect");
        }
        try {
          return await abortable(opened.promise, signal);
        } catch (error) {
          if (signal?.aborted && !s.socket?.open) put("disconnect");
          throw error;
        }
      },
      token: ({ signal } = {}) => current(own, signal),
      async fetch(input, init) {
        const made = new Request(input, init);
        for (let again = false; ; again = true) {
          const token = await current(own, made.signal);
          made.headers.set("Authorization", `Bearer ${token}`);
          const response = await fetch(made.clone());
          if (response.status !== 401 || again) return response;
          put("expired", { token });
        }
      },
      account: (options) => call(own, "GET", "api/account", options),
      sessions: (options) => call(own, "GET", "api/sessions", options),
      endSession: (id, options) => call(own, "DELETE", `api/sessions/${id}`, options),
      endOthers: (options) => call(own, "DELETE", "api/sessions", options),
      async changePassword(body, { signal } = {}) {
        put("tokens", { tokens: await call(own, "POST", "api/auth/password", { body, signal }) });
      },
      async logout({ signal } = {}) {
        const { token } = s;
        for (let bound = 500; own === session; bound = Math.min(30_000, bound * 2)) {
          try {
            await request("POST", "api/auth/logout", { token, signal });
          } catch (problem) {
            if (problem.recovery !== RETRY_LATER && problem.status !== 401) throw problem;
            if (problem.status !== 401) {
              await abortable(new Promise((resolve) => setTimeout(resolve, problem.retry_after * 1000 + Math.random() * bound)), signal);
              continue;
            }
          }
          put("over", { id, problem: endedBy("logout") });
        }
      },
    });
    return own;
  };

  const visitor = target({
    session,
    register: (body, { signal } = {}) => request("POST", "api/auth/register", { body, signal }),
    login: enter("api/auth/login"),
    exchange: enter("api/auth/exchange"),
    loggedIn: ({ signal } = {}) => abortable(entered.promise, signal),
    close() {
      put("disconnect");
      clearTimeout(timer);
      channel.close();
      gone.abort();
    },
  });

  channel.onmessage = ({ data }) => put("heard", { message: data });
  for (const type of ["visibilitychange", "pageshow", "online", "resume"]) {
    addEventListener(type, () => document.hidden || put("wake"), { signal: gone.signal });
  }
  put("begin");
  while (!s.id) {
    try {
      await abortable(usable.promise, signal);
    } catch (problem) {
      if (problem.recovery === RETRY_LATER || problem.recovery === REFRESH) continue;
      visitor.close();
      throw problem;
    }
  }
  return visitor;
}
