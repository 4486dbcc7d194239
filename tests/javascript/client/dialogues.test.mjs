// The client's side of the server's golden dialogues: tests/machine/dialogues/README.md describes the format.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { initial, next, step } from "../../../server/experience/client/source/core.js";

const FOLDER = new URL("../../machine/dialogues/", import.meta.url);
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".txt") && !name.startsWith("fault_"));

/** What a client did in each dialogue, besides what it sent: its events, and its calls after the last line. */
const DID = {
  "gap.txt": { events: ["accepted", "outcome failed"], calls: ["execution"] },
  "intent.txt": { events: ["accepted", "progress 1", "progress 1", "outcome succeeded"], calls: [] },
  "refresh.txt": { events: ["accepted"], calls: ["refresh"] },
  "refused.txt": { events: ["refused"], calls: [] },
  "restart.txt": { events: ["accepted", "accepted"], calls: [] },
  "resume.txt": { events: ["accepted", "progress 1", "progress 1", "progress 1", "outcome succeeded"], calls: [] },
  "resume_late.txt": { events: ["accepted", "progress 1"], calls: [] },
  "revoked.txt": { events: ["accepted", "refused", "ended revoked"], calls: [] },
  "two_at_once.txt": {
    events: ["accepted", "accepted", "progress 1", "progress 1", "outcome cancelled", "outcome failed"],
    calls: [],
  },
};

class Client {
  state = initial(() => 0.5);
  now = 0;
  sent = [];
  calls = [];
  events = [];
  open = 0;

  constructor() {
    this.enter(2, "first", 300);
    this.put("connect");
  }

  enter(version, access_token, expires_in) {
    this.put("tokens", { tokens: { session_id: "s", state: "authenticated", version, access_token, expires_in } });
  }

  put(type, more = {}) {
    for (const [what, ...values] of step(this.state, { type, ...more }, this.now)) {
      if (what === "send") this.sent.push(values[1]);
      else if (what === "call") this.calls.push({ what: values[0], n: values[1], id: values[2] });
      else if (what === "socket") this.open = values[0];
      else if (what === "progress") this.events.push(`progress ${values[2]}`);
      else if (what === "outcome") this.events.push(`outcome ${values[1].state}`);
      else if (what === "ended") this.events.push(`ended ${values[0]}`);
      else if (what === "accepted" || what === "refused") this.events.push(what);
    }
  }

  call(what) {
    const at = this.calls.findIndex((call) => call.what === what);
    return at < 0 ? undefined : this.calls.splice(at, 1)[0];
  }

  /** Let the time pass that the client waits before it connects again. */
  connect() {
    let call;
    while (!(call = this.call("ticket"))) {
      this.now = Math.max(this.now, next(this.state));
      this.put("tick");
    }
    this.put("ticket", { n: call.n, ticket: "t" });
  }

  /** Make the client want what the dialogue's client sends, unless it has sent it of its own accord. */
  want({ type, id, name, parameters, execution_id, access_token }) {
    const { intents } = this.state;
    const asked = this.call("execution");
    if (type === "refresh") this.enter(3, access_token, 600);
    else if (type === "ping") this.put("wake");
    else if (type === "cancel") this.put(type, { id: [...intents.values()].find((one) => one.execution_id === execution_id).id });
    else if (type === "intent" && !intents.has(id)) this.put(type, { id, name, parameters });
    else if (asked) this.put("execution", { id: asked.n, execution: { ended_at: null } });
  }

  play(word, rest) {
    if (word === "now") {
      this.now = Math.max(this.now, Number(rest));
      this.put("tick");
      // A page can't see the pings of the protocol, so the client sends some of its own.
      this.sent = this.sent.filter(({ type }) => type !== "ping");
    } else if (word === "connect") this.connect();
    else if (word === "S") this.put("message", { n: this.open, message: JSON.parse(rest) });
    else if (word === "C") {
      const wanted = JSON.parse(rest);
      if (this.sent.length === 0) this.want(wanted);
      assert.deepEqual(this.sent.shift(), wanted);
    } else if (word === "close") {
      const [code] = rest.split(" ", 1);
      this.put("close", { n: this.open, code: Number(code), text: rest.slice(code.length + 1) });
      this.put("tick");
    } else if (word === "cut") this.put("close", { n: this.open, code: 1006, text: "" });
    else assert.equal(word, "do");
  }
}

test("there is an expectation for each dialogue", () => assert.deepEqual(FILES.sort(), Object.keys(DID)));

for (const name of FILES) {
  test(name, () => {
    const client = new Client();
    for (const line of readFileSync(new URL(name, FOLDER), "utf8").trim().split("\n")) {
      const [word] = line.split(" ", 1);
      if (word !== "#") client.play(word, line.slice(word.length + 1));
    }
    const calls = client.calls.map(({ what }) => what);
    assert.deepEqual({ sent: client.sent, events: client.events, calls }, { sent: [], ...DID[name] });
  });
}
