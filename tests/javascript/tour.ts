// The whole tour by the client that openapi-typescript's types make of openapi-fetch: node tour.js URL ADMIN CLIENT.
// ADMIN is an administrator's secret, CLIENT that of the client `gateway`. tsc checks it, strictly, before it runs.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./interlock.js";

type Schemas = components["schemas"];
type Answer<T> = { data?: T; error?: unknown; response: Response };

const [url = "", adminSecret = "", gatewaySecret = ""] = process.argv.slice(2);
const ada = { email: "typescript@example.org", password: "correct horse battery staple" };
const otherPassword = "incorrect donkey battery staple";

const client = createClient<paths>({ baseUrl: url });
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const admin = bearer(adminSecret);
const form = { "content-type": "application/x-www-form-urlencoded" };
const basic = `Basic ${Buffer.from(`gateway:${gatewaySecret}`).toString("base64")}`;
const gateway = { headers: { ...form, authorization: basic } };

function good<T>({ data, error, response }: Answer<T>): T {
  assert.equal(error, undefined, JSON.stringify(error));
  assert.ok(response.ok && data !== undefined);
  return data;
}

function refused(
  { error, response }: { error?: Schemas["Problem"] | undefined; response: Response },
  type: Schemas["ProblemType"],
  recovery: Schemas["Recovery"],
): Schemas["Problem"] {
  assert.ok(error !== undefined, `${response.status}`);
  assert.deepEqual([error.type, error.recovery, error.status], [type, recovery, response.status]);
  return error;
}

// What a program does after a problem: the compiler misses no word.
function next(recovery: Schemas["Recovery"]): "retry" | "log in" | "begin" | "tell" {
  switch (recovery) {
    case "refresh":
    case "retry_later":
      return "retry";
    case "log_in":
      return "log in";
    case "start_session":
    case "get_session":
      return "begin";
    case "fix_request":
    case "ask_user":
    case "ask_administrator":
      return "tell";
    default: {
      const none: never = recovery;
      return none;
    }
  }
}

// @ts-expect-error: no state of the lifecycle
void ("bored" satisfies Schemas["SessionState"]);
// @ts-expect-error: a login has a password
void (() => client.POST("/api/auth/login", { body: { email: ada.email } }));
// @ts-expect-error: a login has a body
void (() => client.POST("/api/auth/login"));

// @ts-expect-error: an intent has its own parameters
void ({ id: "x", name: "errands.say", parameters: {} } satisfies Schemas["IntentRequest"]);
// @ts-expect-error: no intent of this server
void ({ id: "x", name: "errands.shout", parameters: { text: "x" } } satisfies Schemas["IntentRequest"]);

// A session first, then a login on it.
let tokens = good(await client.POST("/api/session"));
assert.equal(tokens.state, "created");
const account = good(await client.POST("/api/auth/register", { body: ada }));
const taken = refused(
  await client.POST("/api/auth/register", { body: ada }),
  "urn:interlock:problem:account-exists",
  "ask_user",
);
assert.equal(next(taken.recovery), "tell");
const wrong = { email: ada.email, password: "wrong" };
refused(await client.POST("/api/auth/login", { body: wrong }), "urn:interlock:problem:credential-invalid", "log_in");
const anonymous = bearer(tokens.access_token);
refused(await client.POST("/api/session/ticket", anonymous), "urn:interlock:problem:login-required", "log_in");
const login = await client.POST("/api/auth/login", { body: ada, ...anonymous });
tokens = good(login);
assert.equal(
  login.response.headers.get("interlock-receipt"),
  `${tokens.receipt?.position}.${tokens.receipt?.digest}`,
);
refused(await client.GET("/api/session", anonymous), "urn:interlock:problem:token-expired", "refresh");
const session = good(await client.GET("/api/session", bearer(tokens.access_token)));
assert.deepEqual([session.state, session.subject, session.reason], ["authenticated", account.subject, null]);

// Its tokens go on.
assert.ok(tokens.refresh_token !== undefined);
tokens = good(await client.POST("/api/auth/refresh", { body: { refresh_token: tokens.refresh_token } }));
let mine = bearer(tokens.access_token);
refused(await client.POST("/api/auth/refresh"), "urn:interlock:problem:credential-missing", "log_in");
assert.equal(good(await client.POST("/api/session/ticket", mine)).expires_in, 30);

// All sessions of the account.
const elsewhere = good(await client.POST("/api/auth/login", { body: ada }));
const listed = await client.GET("/api/sessions", { ...mine, params: { query: { limit: 1 } } });
assert.deepEqual(good(listed).map((each) => each.session_id), [elsewhere.session_id]);
assert.match(listed.response.headers.get("link") ?? "", /rel="next"/);
const end = { ...mine, params: { path: { session_id: elsewhere.session_id } } };
assert.equal((await client.DELETE("/api/sessions/{session_id}", end)).response.status, 204);
const over = await client.GET("/api/session", bearer(elsewhere.access_token));
assert.equal(refused(over, "urn:interlock:problem:session-ended", "start_session").reason, "revoked");
assert.equal(good(await client.DELETE("/api/sessions", mine)).ended, 0);
const steps = good(await client.GET("/api/session/transitions", mine));
assert.deepEqual(steps.slice(0, 2).map((step) => step.event), ["create", "authenticate"]);

// Intents: each has a type of its own.
assert.deepEqual(good(await client.GET("/api/account", mine)).groups, []);
const say: Schemas["IntentRequest"] = { id: "first", name: "errands.say", parameters: { text: "ab", times: 2 } };
const begun = await client.POST("/api/intents", { body: say, ...mine });
assert.equal(begun.response.status, 202);
const execution = { ...mine, params: { path: { execution_id: good(begun).execution_id } } };
let done = good(begun);
assert.equal(done.state, "accepted");
while (done.state === "accepted" || done.state === "running") {
  done = good(await client.GET("/api/executions/{execution_id}", execution));
}
assert.deepEqual([done.state, done.reason, done.error], ["succeeded", null, undefined]);
const said = done.result as Schemas["errands.Said"];
assert.deepEqual(said, { text: "abab", attempt: 1 });
const repeated = await client.POST("/api/intents", { body: say, ...mine });
assert.equal(repeated.response.status, 200);
assert.deepEqual(good(repeated), done);
const other: Schemas["IntentRequest"] = { ...say, parameters: { text: "x" } };
refused(
  await client.POST("/api/intents", { body: other, ...mine }),
  "urn:interlock:problem:intent-reused",
  "fix_request",
);
const long: Schemas["IntentRequest"] = { id: "long", name: "errands.say", parameters: { text: "x".repeat(101) } };
const tooLong = refused(
  await client.POST("/api/intents", { body: long, ...mine }),
  "urn:interlock:problem:parameters-refused",
  "fix_request",
);
assert.deepEqual(tooLong.errors?.map((each) => each.field), ["parameters.text"]);
refused(
  await client.POST("/api/intents", { body: { id: "staff", name: "errands.staff", parameters: {} }, ...mine }),
  "urn:interlock:problem:role-missing",
  "ask_administrator",
);
const waiting = good(
  await client.POST("/api/intents", { body: { id: "wait", name: "errands.wait", parameters: {} }, ...mine }),
);
const cancel = { ...mine, params: { path: { execution_id: waiting.execution_id } } };
const cancelled = good(await client.DELETE("/api/executions/{execution_id}", cancel));
assert.deepEqual([cancelled.state, cancelled.reason], ["cancelled", "asked"]);
const executions = good(await client.GET("/api/executions", mine));
assert.deepEqual(executions.map((each) => each.execution_id), [waiting.execution_id, done.execution_id]);

// The password.
const change = { current_password: ada.password, new_password: otherPassword };
const mistaken = { ...change, current_password: "wrong" };
refused(
  await client.POST("/api/auth/password", { body: mistaken, ...mine }),
  "urn:interlock:problem:password-wrong",
  "ask_user",
);
tokens = good(await client.POST("/api/auth/password", { body: change, ...mine }));
mine = bearer(tokens.access_token);

// What other software asks.
const token = { body: { token: tokens.access_token }, ...gateway };
assert.equal(good(await client.POST("/oauth/introspect", token)).session_state, "authenticated");
const stranger = { body: { token: "x" }, headers: form };
const denied = refused(
  await client.POST("/oauth/introspect", stranger),
  "urn:interlock:problem:client-authentication-failed",
  "fix_request",
);
assert.equal(denied.error, "invalid_client");
assert.equal(good(await client.POST("/oauth/revoke", { ...token, body: { token: "x" } })).ended, 0);
const passes = await client.GET("/api/forward-auth", { ...mine, parseAs: "text" });
assert.equal(passes.response.headers.get("remote-user"), account.subject);
assert.equal(good(await client.GET("/.well-known/jwks.json")).keys[0]?.["kty"], "EC");
assert.equal(good(await client.GET("/health/live")).status, "ok");
assert.equal(good(await client.GET("/health/ready")).status, "ok");
refused(
  await client.POST("/api/auth/exchange", { body: { id_token: "x" } }),
  "urn:interlock:problem:credential-invalid",
  "log_in",
);

// The end.
assert.equal((await client.POST("/api/auth/logout", mine)).response.status, 204);
refused(await client.GET("/api/session", mine), "urn:interlock:problem:session-ended", "start_session");

// Administrators.
const id = { params: { path: { account_id: account.subject } } };
refused(
  await client.GET("/api/admin/accounts/{account_id}", { ...mine, ...id }),
  "urn:interlock:problem:admin-credential-invalid",
  "ask_administrator",
);
const byEmail = { ...admin, params: { query: { email: ada.email } } };
assert.equal(good(await client.GET("/api/admin/accounts", byEmail))[0]?.subject, account.subject);
const groups = { ...admin, ...id, body: { groups: ["staff"] } };
assert.deepEqual(good(await client.PUT("/api/admin/accounts/{account_id}/groups", groups)).groups, ["staff"]);
const ended = await client.GET("/api/admin/sessions", {
  ...admin,
  params: { query: { state: "expired", reason: "logout", subject: account.subject } },
});
assert.deepEqual(good(ended).map((each) => each.session_id), [tokens.session_id]);
const again = good(await client.POST("/api/auth/login", { body: { ...ada, password: otherPassword } }));
const any = { ...admin, params: { path: { session_id: again.session_id } } };
assert.equal(good(await client.GET("/api/admin/sessions/{session_id}", any)).state, "authenticated");
assert.equal((await client.DELETE("/api/admin/sessions/{session_id}", any)).response.status, 204);
assert.equal(good(await client.GET("/api/admin/sessions/{session_id}/transitions", any)).at(-1)?.event, "revoke");
assert.equal(good(await client.DELETE("/api/admin/accounts/{account_id}/sessions", { ...admin, ...id })).ended, 0);
const disabled = good(await client.POST("/api/admin/accounts/{account_id}/disable", { ...admin, ...id }));
assert.equal(disabled.state, "disabled");
refused(
  await client.POST("/api/auth/login", { body: { ...ada, password: otherPassword } }),
  "urn:interlock:problem:account-disabled",
  "ask_administrator",
);
const enabled = await client.POST("/api/admin/accounts/{account_id}/enable", { ...admin, ...id });
assert.equal(good(enabled).disabled_at, null);
const log = good(await client.GET("/api/admin/transitions", { ...admin, params: { query: { limit: 1000 } } }));
assert.ok(log.some((step) => step.instance_id === tokens.session_id));
assert.equal(good(await client.GET("/api/admin/audit", admin)).at(-1)?.event, "enable");
const own = await client.GET("/api/admin/accounts/{account_id}/transitions", { ...admin, ...id });
assert.equal(good(own)[0]?.event, "register");
const runs = await client.GET("/api/admin/executions", {
  ...admin,
  params: { query: { state: "succeeded", subject: account.subject } },
});
assert.deepEqual(good(runs).map((run) => [run.execution_id, run.effects]), [[done.execution_id, "idempotent"]]);
const anyRun = { ...admin, params: { path: { execution_id: done.execution_id } } };
const run = good(await client.GET("/api/admin/executions/{execution_id}", anyRun));
assert.deepEqual(good(await client.DELETE("/api/admin/executions/{execution_id}", anyRun)), run, "it had ended");
const itsSteps = good(await client.GET("/api/admin/executions/{execution_id}/transitions", anyRun));
assert.deepEqual(itsSteps.map((step) => step.event), ["accept", "start", "succeed"]);
assert.equal(good(await client.DELETE("/api/admin/accounts/{account_id}", { ...admin, ...id })).state, "deleted");

// The log as it grows: the first record that it has.
const stream = await client.GET("/api/admin/transitions/stream", {
  ...admin,
  params: { query: { after: 0 } },
  parseAs: "stream",
});
const reader = good(stream)?.getReader();
let read = "";
while (reader !== undefined && !read.includes("event: transition")) {
  read += new TextDecoder().decode((await reader.read()).value);
}
await reader?.cancel();
console.log("the whole tour");
