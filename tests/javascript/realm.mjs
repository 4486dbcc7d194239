// A remote realm: node realm.mjs PORT INTERLOCK_URL, with its secrets in REALM_SECRETS, the newest first, separated by spaces.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Webhook } from "standardwebhooks";

const [port, interlock] = process.argv.slice(2);
const hooks = process.env.REALM_SECRETS.split(" ").map((secret) => new Webhook(secret));
const outcomes = new Map(); // In your realm: a table of the database that has the effects, written in their transaction.
const jobs = new Map();
const log = (event, about) => console.log(JSON.stringify({ event, ...about }));

function isSigned(headers, body) {
  return hooks.some((hook) => {
    try {
      hook.verify(body, headers);
      return true;
    } catch {
      return false;
    }
  });
}

/** Answer a call: [status, body]. The execution id is the idempotency key of everything that you do for it. */
function execute(call) {
  const id = call.execution_id;
  if (outcomes.has(id)) return [200, outcomes.get(id)];
  switch (call.name) {
    case "billing.charge":
      if (call.parameters.cents > 100_000) return [200, { error: "the limit is 1000 euros" }];
      log("effect", { id });
      outcomes.set(id, { result: { charge: `ch_${outcomes.size + 1}`, payer: call.subject } });
      return [200, outcomes.get(id)];
    case "billing.statement": {
      const job = jobs.get(id) ?? { stop: new AbortController() };
      job.attempt = call.attempt; // Report the outcome for the attempt that runs now.
      if (!jobs.has(id)) work(id, job, call.parameters);
      return [202, {}];
    }
    default:
      return [404, { error: `there is no ${call.name}` }];
  }
}

async function work(id, job, parameters) {
  jobs.set(id, job);
  try {
    await sleep(parameters.seconds * 1000, undefined, { signal: job.stop.signal });
    log("effect", { id });
    outcomes.set(id, { result: { pages: 2 } });
    await report(id, job);
  } catch (error) {
    log("stopped", { id, error: error.name });
  } finally {
    jobs.delete(id);
  }
}

/** Report an outcome until the server has recorded or refused it. */
async function report(id, job) {
  for (let pause = 200; ; pause = Math.min(2 * pause, 10_000)) {
    const body = JSON.stringify({ attempt: job.attempt, ...outcomes.get(id) });
    const now = new Date();
    const headers = {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": hooks[0].sign(id, now, body),
    };
    try {
      const answer = await fetch(`${interlock}/api/realms/billing/outcomes`, { method: "POST", headers, body });
      log("reported", { id, attempt: job.attempt, status: answer.status });
      if (answer.status < 500 && answer.status !== 429) return;
    } catch {
      log("unreachable", { id });
    }
    await sleep(pause, undefined, { signal: job.stop.signal });
  }
}

createServer(async (request, response) => {
  let body = "";
  for await (const part of request.setEncoding("utf8")) body += part;
  const answer = (status, content) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(content));
  };
  if (request.method !== "POST" || !isSigned(request.headers, body)) return answer(401, { error: "not signed" });
  const call = JSON.parse(body);
  if (request.url === "/interlock/cancel") {
    log("cancelled", { id: call.execution_id });
    jobs.get(call.execution_id)?.stop.abort();
    return answer(200, {});
  }
  log("called", { id: call.execution_id, name: call.name, attempt: call.attempt });
  answer(...execute(call));
}).listen(port, "127.0.0.1", function () {
  log("listening", { port: this.address().port });
});
