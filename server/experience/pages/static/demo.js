/** The demo: each step of a session as a button, beside what the server has recorded. */
import { open } from "../client/interlock.js";

const element = (id) => document.getElementById(id);
const server = new URL("../", import.meta.url);

const WHY = {
  logout: "You logged out, in this tab or in another one.",
  revoked: "Somebody ended it: you from another session, or an administrator.",
  idle: "Nothing happened in it for too long.",
  absolute: "It had lasted for as long as a session may.",
  token_reuse: "A refresh token was used that somebody must have copied.",
};

function show(state, words) {
  for (const each of document.querySelectorAll(".states li")) {
    if (each.dataset.state === state) each.setAttribute("aria-current", "step");
    else each.removeAttribute("aria-current");
  }
  element("now").textContent = words;
}

function row({ position, event, source, target, actor }) {
  const line = document.createElement("tr");
  line.dataset.position = position;
  const by = actor.startsWith("acc_") ? "its owner" : actor;
  for (const text of [position, event, source ?? "", target, by]) line.insertCell().textContent = text;
  return line;
}

const seen = new Set();

function record(transition) {
  if (seen.has(transition.position)) return;
  seen.add(transition.position);
  element("transitions").prepend(row(transition));
}

/** Run what a button does, and say what is wrong if it fails. */
async function attempt(work) {
  element("problem").hidden = true;
  try {
    return await work();
  } catch (problem) {
    element("problem").textContent = [problem.title ?? problem.message, problem.detail].filter(Boolean).join(": ");
    element("problem").hidden = false;
    return undefined;
  }
}

let session = null;
let socket = null;

function enable() {
  element("connect").disabled = !session || Boolean(socket);
  element("send").disabled = !socket;
  element("log-out").disabled = !session;
  for (const id of ["register", "log-in"]) element(id).disabled = Boolean(session);
  element("command").hidden = !session;
}

async function connect() {
  socket = await session.connect();
  socket.addEventListener("transition", ({ detail }) => {
    record(detail);
    show(detail.target, `It is ${detail.target}.`);
  });
  socket.addEventListener("down", ({ detail }) => show(null, `The connection is lost (${detail.code ?? "no network"}). It comes back by itself.`));
  socket.addEventListener("open", ({ detail }) => show(detail.state, "Connected again. Nothing was missed."));
  show("connected", "It is connected.");
  enable();
  await history();
}

async function history() {
  const answer = await session.fetch(new URL("api/session/transitions", server));
  if (answer.ok) for (const each of await answer.json()) record(each);
}

async function begun(logged) {
  session = logged;
  element("command").textContent = [
    `export INTERLOCK_URL=${server.href.slice(0, -1)}`,
    "export INTERLOCK_ADMIN_TOKEN=$(.venv/bin/interlock admin-token create demo)",
    `.venv/bin/interlock sessions end ${session.id}`,
  ].join("\n");
  show(session.state, `It is ${session.state}.`);
  enable();
  session.ended.then(({ reason }) => {
    session = null;
    socket = null;
    show("expired", `It has ended: ${reason}. ${WHY[reason] ?? ""} Log in, and another one begins.`);
    enable();
  });
  await history();
  element("email").value = (await session.account()).email ?? "";
}

const name = `visitor-${crypto.randomUUID().slice(0, 8)}`;
element("email").value = `${name}@example.org`;
element("password").value = "correct horse battery staple";

const visitor = await open();
if (visitor.session) {
  element("loaded").textContent = "This browser has a session, and somebody is logged in to it: it goes on.";
  await attempt(async () => {
    await begun(visitor.session);
    await connect();
  });
} else {
  element("loaded").textContent = "An anonymous session has begun. Its token is in a cookie that scripts can't read.";
  show("created", "It is anonymous.");
  enable();
}
visitor.addEventListener("login", ({ detail }) => {
  if (!session) attempt(() => begun(detail));
});

const credentials = () => ({ email: element("email").value, password: element("password").value });

element("register").addEventListener("click", () =>
  attempt(async () => {
    const { email } = await visitor.register(credentials());
    element("now").textContent = `${email} is registered. Now log in.`;
  }),
);

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const logged = await visitor.login(credentials());
    if (!session) await begun(logged);
  });
});

element("connect").addEventListener("click", () => attempt(connect));

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  element("answer").textContent = "";
  attempt(async () => {
    const run = socket.intent("agent.ask", { question: element("question").value });
    for await (const part of run.progress) element("answer").append(part);
    const outcome = await run.outcome;
    element("answer").append(` — ${outcome.state}, recorded at position ${outcome.receipt.position}.`);
  });
});

element("log-out").addEventListener("click", () => attempt(() => session.logout()));

document.documentElement.dataset.ready = "true";
