// The login page. It goes on at once if the browser has a session, and otherwise shows one of its forms.

const page = document.querySelector("#login");
const problem = document.querySelector("#problem");
const next = page.dataset.next;
const views = ["known", "enter", "register", "reset"];
const api = new URL("../api/auth/", import.meta.url);

const WENT = "interlock.login";
const SOON_MS = 10_000;

/** Post `body` and return the answer, with the problem's text if it is an error. */
async function post(call, body) {
  const sent = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  try {
    const answer = await fetch(new URL(call, api), { method: "POST", ...sent });
    const told = answer.status === 204 ? {} : await answer.json();
    return { good: answer.ok, told, text: told.detail ?? told.title };
  } catch {
    return { good: false, told: {}, text: "The server can't be reached. Try again in a moment." };
  }
}

function show(view) {
  for (const each of views) document.getElementById(each).hidden = each !== view;
  const shown = document.getElementById(view);
  document.title = `${shown.querySelector("h1").textContent} · Interlock`;
  shown.querySelector("input, a").focus();
}

function say(text) {
  problem.textContent = text;
  problem.hidden = !text;
}

function asked() {
  const view = location.hash.slice(1);
  return ["register", "reset"].includes(view) ? view : "enter";
}

/** Leave for the page that was asked for. Going there twice within seconds would go round in circles. */
function go() {
  sessionStorage.setItem(WENT, JSON.stringify({ next, at: Date.now() }));
  location.replace(next);
}

function wentJustNow() {
  const went = JSON.parse(sessionStorage.getItem(WENT) ?? "{}");
  return went.next === next && Date.now() - went.at < SOON_MS;
}

const doing = {
  enter: ({ email, password }) => post("login", { email, password }),
  register: async ({ email, password }) => {
    const registered = await post("register", { email, password });
    return registered.good ? post("login", { email, password }) : registered;
  },
  reset: async ({ email, code, password }) => {
    const reset = await post("reset", { email, code, new_password: password });
    return reset.good ? post("login", { email, password }) : reset;
  },
};

for (const [view, act] of Object.entries(doing)) {
  const form = document.getElementById(view);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    say("");
    const done = await act(Object.fromEntries(new FormData(form)));
    button.disabled = false;
    if (done.good) go();
    else say(done.text);
  });
}

document.getElementById("leave").addEventListener("click", async () => {
  const left = await post("logout");
  say(left.good ? "" : left.text);
  show("enter");
});

addEventListener("hashchange", () => {
  say("");
  show(asked());
});

const { good, told } = await post("refresh");
if (good && told.state !== "created") {
  if (wentJustNow()) show("known");
  else go();
} else {
  show(asked());
}
