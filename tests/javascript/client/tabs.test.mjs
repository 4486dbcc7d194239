// Random orders of tabs, with answers lost, late and doubled, clocks stepped, and a server that restarts: N15 to N18 hold.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { serving, Tab, World } from "./world.mjs";

const RUNS = Number(process.env.FAST_CHECK_RUNS ?? 500);

const pick = (list, number) => list[number % list.length];
const of = (world, number, act) => {
  const tab = pick(world.tabs, number);
  if (tab) act(tab);
};

/** What may happen, by name. Each takes the world and a number that chooses. */
const ACTS = {
  open: (world) => world.tabs.length < 5 && world.tabs.push(new Tab(world, world.random)),
  login: (world, number) => of(world, number, (tab) => {
      if (!serving(tab.state) && !tab.entering) {
        // One at a time: a second click waits for the first answer.
        tab.entering = true;
        world.ask(tab, "login", {});
      };
    }),
  logout: (world, number) => of(world, number, (tab) => serving(tab.state) && world.ask(tab, "logout", tab.state)),
  connect: (world, number) => of(world, number, (tab) => serving(tab.state) && tab.put("connect")),
  disconnect: (world, number) => of(world, number, (tab) => tab.put("disconnect")),
  intent: (world, number) =>
    of(world, number, (tab) => {
      if (tab.state.wanted) tab.put("intent", { id: `i${world.intents++}`, name: "x", parameters: {} });
    }),
  wake: (world, number) => of(world, number, (tab) => tab.put("wake")),
  need: (world, number) => of(world, number, (tab) => tab.put("need")),
  deliver: (world, number) => world.air.length && world.deliver(pick(world.air, number)),
  deliverTwice: (world, number) => world.air.length && world.deliver(pick(world.air, number), true),
  lose: (world, number) => world.air.length && world.lose(pick(world.air, number)),
  hear: (world, number) => world.radio.length && world.hear(pick(world.radio, number)),
  loseNews: (world) => world.radio.shift(),
  receive: (world, number) => world.sockets.length && world.receive(pick(world.sockets, number)),
  cut: (world, number) => world.server.sockets.size && world.cut(pick([...world.server.sockets], number)),
  finish: (world, number) =>
    world.server.executions.size && world.server.finish(pick([...world.server.executions.values()], number)),
  busy: (world, number) => (world.server.busy = number % 4),
  restart: (world) => world.server.restart(),
  revoke: (world, number) => world.server.sessions.size && world.server.end(`s${number % world.server.sessions.size}`, "revoked"),
  pass: (world, number) => world.pass(number * 10),
  sleep: (world, number) => world.pass(number * 1000),
  stepClock: (world, number) => (world.skew = (number - 500) * 3600),
};

// What drives a conversation on comes more often than what disturbs it.
const OFTEN = ["deliver", "receive", "hear", "intent", "connect", "login"];
const act = fc.tuple(fc.constantFrom(...Object.keys(ACTS), ...OFTEN, ...OFTEN, ...OFTEN), fc.nat(1000));

function played(acts, seed) {
  let state = seed + 1;
  const world = new World(() => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647);
  ACTS.open(world);
  // Half of the schedules begin with a connected tab.
  if (seed % 2) for (const name of ["deliver", "login", "deliver", "connect", "deliver", "receive", "intent", "open"]) ACTS[name](world, 0);
  for (const [name, number] of acts) ACTS[name](world, number);
  world.server.busy = 0;
  world.settle();
  // Each tab is looked at once more, and asks for a new token.
  for (const tab of world.tabs) {
    tab.put("wake");
    tab.put("expired", { token: tab.state.token });
    tab.put("need");
  }
  world.settle();
  return world;
}

/** That the schedules are not all dull: how often each thing was seen. */
const seen = { tabs: 0, ended: 0, replaced: 0, outcome: 0 };

test("N15 to N18 hold in every tab, whatever happens between them", () => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 150, size: "max" }), fc.nat(1_000_000), (acts, seed) => {
      const world = played(acts, seed);
      for (const tab of world.tabs) {
        for (const { id, reason, refused, entering } of tab.ended) {
          const session = world.server.sessions.get(id);
          // Its own login may have brought another session.
          assert.ok(session.reason || refused || entering, `N15: ${id} has not ended, but a tab says ${reason}`);
        }
        const { state } = tab;
        if (!serving(state)) continue;
        assert.equal(state.id, world.jar.cookie?.id, "N17: a tab holds another session than its browser");
        assert.ok(world.server.alive(state.id), "N17: a tab holds a session that has ended");
        if (!state.wanted) continue;
        assert.ok(state.socket?.open, "a tab that wants to be connected is");
        assert.deepEqual([...state.intents.keys()], [], "N18: an intent has no outcome");
      }
      for (const execution of world.server.executions.values()) assert.equal(execution.runs, 1, "N18: it ran twice");
      for (const tab of world.tabs) {
        for (const [id, how] of tab.settled) {
          seen[how] = (seen[how] ?? 0) + 1;
          if (how === "outcome") assert.equal(world.server.executions.get(id).state, "succeeded", "N18: it made the outcome up");
        }
        seen.ended += tab.ended.length;
        seen.replaced += tab.ended.filter(({ reason }) => reason === "replaced").length;
      }
      seen.tabs += world.tabs.length > 1;
    }),
    { numRuns: RUNS, seed: process.env.FAST_CHECK_SEED ? Number(process.env.FAST_CHECK_SEED) : 20_261_130 },
  );
  assert.ok(seen.tabs > RUNS / 2 && seen.ended > RUNS / 10 && seen.outcome > RUNS / 10, JSON.stringify(seen));
});
