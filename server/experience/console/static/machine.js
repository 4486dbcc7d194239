// The machine: live numbers once a second while the page is visible, or those of any position of the log.

// The server may be below a path of its host.
const ROOT = new URL("..", import.meta.url).pathname.slice(0, -1);

const slider = document.querySelector(".slider");
const range = document.getElementById("slider");
const moment = document.getElementById("moment");
const box = document.getElementById("at");
const follows = document.getElementById("follows");
const counting = document.getElementById("counting");
const replay = document.getElementById("replay");

const REMEMBERED = 5;
const firstMs = Number(slider.dataset.firstMs);
const skewMs = Number(slider.dataset.nowMs) - Date.now();
let newest = Number(slider.dataset.newest);
let source = null;
let readings = [];
let asked = null;
let replaying = null;
let at = slider.dataset.at === "" ? null : Number(slider.dataset.at);

const key = (...parts) => parts.map((part) => part ?? "").join("|");

function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

function rate(perSecond) {
  if (perSecond < 0.05) return "";
  return ` ${perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond)}/s`;
}

function show(numbers, flows, refusals, past) {
  for (const machine of document.querySelectorAll(".machine")) {
    const kind = machine.dataset.kind;
    const states = numbers.states[kind] ?? {};
    for (const state of machine.querySelectorAll(".state")) {
      const final = state.querySelector(".inner") !== null;
      const count = states[state.dataset.state] ?? 0;
      text(state.querySelector(".count"), final && !past ? `+${count}` : String(count));
    }
    const busy = new Set();
    for (const edge of machine.querySelectorAll(".edge")) {
      const { event, source: from, target: to } = edge.dataset;
      const flow = flows.get(key(kind, event, from, to)) ?? 0;
      if (flow >= 0.05) busy.add(key(from, to));
      text(edge.querySelector(".flow"), rate(flow));
    }
    for (const arrow of machine.querySelectorAll(".arrow")) {
      arrow.classList.toggle("flowing", busy.has(key(arrow.dataset.source, arrow.dataset.target)));
    }
    for (const group of machine.querySelectorAll(".refusal")) {
      const found = refusals.filter(([of, , state]) => of === kind && state === group.dataset.state);
      const lines = found
        .sort((one, other) => other[4] - one[4])
        .slice(0, 2)
        .flatMap(([, event, , guard, count]) => [`${event} refused ×${count}`, guard ?? "not declared here"]);
      group.querySelectorAll("text").forEach((line, n) => text(line, lines[n] ?? ""));
      group.classList.toggle("on", lines.length > 0);
    }
  }
}

function showLive(numbers) {
  const now = performance.now();
  const totals = new Map(numbers.edges.map(([kind, event, from, to, count]) => [key(kind, event, from, to), count]));
  readings.push({ now, totals });
  if (readings.length > REMEMBERED + 1) readings.shift();
  const before = readings[0];
  const seconds = (now - before.now) / 1000;
  const flows = new Map();
  if (seconds > 0.5) {
    for (const [edge, count] of totals) flows.set(edge, (count - (before.totals.get(edge) ?? 0)) / seconds);
  }
  newest = numbers.position;
  box.max = box.placeholder = String(newest);
  text(document.getElementById("position"), String(newest));
  text(document.getElementById("signed"), numbers.signed === newest ? `${newest} (all)` : String(numbers.signed));
  const verified = document.getElementById("verified");
  text(verified, numbers.broken ?? (numbers.verified === newest ? `${newest} (all)` : String(numbers.verified)));
  verified.classList.toggle("bad", numbers.broken !== null);
  if (numbers.ending !== null) {
    text(document.getElementById("ending"), `${numbers.ending.sockets} socket${numbers.ending.sockets === 1 ? "" : "s"} closed in ${numbers.ending.ms} ms`);
  }
  show(numbers, flows, numbers.refusals, false);
}

function showPast(numbers) {
  const flows = new Map(numbers.edges.map(([kind, event, from, to, count]) => [key(kind, event, from, to), count]));
  at = numbers.position;
  box.value = String(at);
  text(moment, new Date(numbers.at_ms).toISOString());
  const whole = numbers.counted === at;
  text(counting, whole ? "" : `Counted ${Math.floor((100 * numbers.counted) / at)} % of the records up to here …`);
  show(numbers, flows, [], true);
  if (!whole) ask({ at });
}

function badge(label, style) {
  text(follows, label);
  follows.className = `badge ${style}`;
}

function connect() {
  if (source !== null || at !== null || document.hidden) return;
  readings = [];
  source = new EventSource(`${ROOT}/live`);
  source.addEventListener("numbers", (event) => {
    badge("live", "good");
    showLive(JSON.parse(event.data));
  });
  source.addEventListener("end", (event) => {
    badge("ended", "warn");
    if (JSON.parse(event.data).reason === "credential-removed") location.reload();
  });
  source.addEventListener("error", () => {
    badge("reconnecting", "warn");
    if (source !== null && source.readyState === EventSource.CLOSED) {
      disconnect();
      setTimeout(connect, 3000);
    }
  });
}

function disconnect() {
  source?.close();
  source = null;
}

async function ask(query) {
  disconnect();
  badge("at rest", "warn");
  document.getElementById("live").hidden = false;
  asked?.abort();
  asked = new AbortController();
  try {
    const answer = await fetch(`${ROOT}/numbers?${new URLSearchParams(query)}`, {
      headers: { accept: "application/json" },
      signal: asked.signal,
    });
    if (answer.status === 401) location.reload();
    if (!answer.ok) return;
    showPast(await answer.json());
    history.replaceState(null, "", `${ROOT}?at=${at}`);
  } catch (error) {
    if (error.name !== "AbortError") badge("not reachable", "bad");
  }
}

const nowMs = () => Date.now() + skewMs;

function timeAtSlider() {
  const part = Number(range.value) / Number(range.max);
  return Math.round(firstMs + part * (nowMs() - firstMs));
}

async function showRecords() {
  if (at === null) return;
  const answer = await fetch(`${ROOT}?at=${at}`, { headers: { accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("records")?.replaceChildren(...(page.getElementById("records")?.children ?? []));
}

function stop() {
  clearInterval(replaying);
  replaying = null;
  replay.setAttribute("aria-pressed", "false");
  text(replay, "Replay");
}

range.addEventListener("input", () => ask({ at_ms: timeAtSlider() }));
range.addEventListener("change", showRecords);
for (const [name, by] of [["earlier", -1], ["later", 1]]) {
  document.getElementById(name).addEventListener("click", async () => {
    await ask({ at: Math.max(0, Math.min(newest, (at ?? newest) + by)) });
    await showRecords();
  });
}
replay.addEventListener("click", () => {
  if (replaying !== null) return stop();
  if (range.value === range.max) range.value = "0";
  replay.setAttribute("aria-pressed", "true");
  text(replay, "Stop");
  replaying = setInterval(async () => {
    range.value = String(Number(range.value) + 10);
    await ask({ at_ms: timeAtSlider() });
    if (range.value === range.max) {
      stop();
      await showRecords();
    }
  }, 500);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    disconnect();
    stop();
    if (at === null) badge("paused", "quiet");
  } else connect();
});
window.addEventListener("pagehide", disconnect);

const first = JSON.parse(document.getElementById("numbers").dataset.numbers);
if (at === null) {
  showLive(first);
  connect();
} else {
  range.value = String(Math.round((Number(range.max) * (first.at_ms - firstMs)) / Math.max(1, nowMs() - firstMs)));
  showPast(first);
}
