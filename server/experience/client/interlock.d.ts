/**
 * Sessions in the browser: log in, connect, submit intents, log out.
 *
 * `connect` exists only on a {@link Session}, which only a login returns. So a program that connects before a login does not
 * type-check. Every method that waits takes an AbortSignal, and rejects with a {@link Problem} or with the signal's reason.
 */
import type { CloseAction, EndReason, EndState, ExecutionReason, Problems, Recovery, SessionState } from "./declared.js";

export type * from "./declared.js";

export interface Waiting {
  signal?: AbortSignal | undefined;
}

export interface Credentials {
  email: string;
  password: string;
}

/** Proof that a record is in the server's log. */
export interface Receipt {
  position: number;
  digest: string;
}

/**
 * What the server, or the client itself, refuses. `recovery` is what to do next. With `retry_later`, nothing was refused for good:
 * the server is busy or, with `status` 0, can't be reached. `reason` says why a session ended.
 */
export class Problem extends Error {
  readonly type: keyof Problems | "urn:interlock:problem:unreachable" | `close:${number}` | (string & {});
  readonly title: string;
  readonly status?: number;
  readonly detail?: string;
  readonly recovery: Recovery | CloseAction;
  readonly advice?: string;
  readonly reason?: EndReason | (string & {});
  readonly errors?: readonly { field: string; message: string }[];
  /** Seconds to wait, at least. */
  readonly retry_after?: number;
  /** The WebSocket close code, if one is the cause. */
  readonly code?: number;
}

/**
 * Resume the browser's session, or begin an anonymous one. Waits while the server can't be reached.
 *
 * `url` is where the server is, with a slash at the end. Without it, it is the server that this module was loaded from.
 */
export function open(options?: Waiting & { url?: string | URL }): Promise<Visitor>;

/** One tab's view of the browser's session. It stays usable when sessions end and others begin. */
export interface Visitor extends Target<VisitorEvents> {
  /** The session, if somebody is logged in: in this tab or in another one. */
  readonly session: Session | null;
  /** Create an account. This does not log in. */
  register(account: Credentials, options?: Waiting): Promise<{ subject: string; email: string; created_at: string }>;
  login(credentials: Credentials, options?: Waiting): Promise<Session>;
  /** Log in with the ID token of an identity provider. */
  exchange(identity: { id_token: string; nonce?: string }, options?: Waiting): Promise<Session>;
  /** Wait until somebody is logged in, in whichever tab. */
  loggedIn(options?: Waiting): Promise<Session>;
  /** Stop everything in this tab. The session lives on. */
  close(): void;
}

/** A session that somebody has logged in to. After its end, its methods reject with the type `session-ended`. */
export interface Session extends Target<SessionEvents> {
  readonly id: string;
  readonly state: SessionState;
  /** Resolves when the session has ended: by a logout in whichever tab, by a deadline, by somebody else. */
  readonly ended: Promise<Ended>;
  /** Open the WebSocket, or return this tab's open one. It reconnects by itself. */
  connect(options?: Waiting): Promise<Socket>;
  /** A current access token, for a WebSocket of the application's own. Ask for it at each handshake, and don't keep it. */
  token(options?: Waiting): Promise<string>;
  /** `fetch` with an access token, for the application's own back end. After a 401, it refreshes and asks once more. */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
  account(options?: Waiting): Promise<Account>;
  /** The account's live sessions, newest first, up to 100. */
  sessions(options?: Waiting): Promise<SessionView[]>;
  /** End another session of the account. Needs a recent login, like `endOthers`: see `login`. */
  endSession(id: string, options?: Waiting): Promise<void>;
  /** End all other sessions of the account: log out everywhere else. */
  endOthers(options?: Waiting): Promise<{ ended: number; receipt?: Receipt }>;
  changePassword(passwords: { current_password: string; new_password: string }, options?: Waiting): Promise<void>;
  /** Log in again, after a problem `login-too-old`. */
  login(credentials: Credentials, options?: Waiting): Promise<Session>;
  /** End the session, in every tab. Retries until the server has recorded it, or `signal` aborts. */
  logout(options?: Waiting): Promise<void>;
}

/** A WebSocket over as many connections as it takes. */
export interface Socket extends Target<SocketEvents> {
  /** Submit an intent. It is executed once, whatever breaks. With the `id` of an earlier one, hear of that execution again. */
  intent<Result = unknown, Part = unknown>(
    name: string,
    parameters?: object,
    options?: Waiting & { id?: string },
  ): Run<Result, Part>;
  close(): void;
  /** Resolves, with the cause, when it will not reconnect. */
  readonly closed: Promise<Trouble>;
}

/** An intent under way. If its `signal` aborts, the waits end and an intent that has not been sent is not sent; see `cancel`. */
export interface Run<Result, Part> {
  readonly id: string;
  /** How often the execution has begun. A crash may make it begin again; then `progress` begins again, too. */
  readonly attempt: number;
  /** Resolves when the server has recorded the intent. */
  readonly accepted: Promise<{ execution_id: string; receipt: Receipt }>;
  /** What the execution emits, until it ends. Rejects like `outcome`. */
  readonly progress: AsyncIterable<Part>;
  /** Resolves when the execution has ended, however. Rejects if the intent is refused, or the socket or session ends. */
  readonly outcome: Promise<Outcome<Result>>;
  /** Ask the server to stop the execution. `outcome` says how it ended. */
  cancel(): void;
}

export type Outcome<Result> = { execution_id: string; intent_id: string; receipt: Receipt } & (
  | { state: "succeeded"; result: Result }
  | { state: Exclude<EndState, "succeeded">; reason: ExecutionReason; error?: string }
);

export interface Ended {
  reason: EndReason | (string & {});
}

export type Trouble = Pick<Problem, "type" | "title" | "recovery" | "reason" | "code" | "status" | "retry_after">;

export interface Account {
  subject: string;
  email: string | null;
  groups: string[];
  created_at: string;
}

export interface SessionView {
  session_id: string;
  state: SessionState;
  version: number;
  subject: string | null;
  connections: number;
  created_at: string;
  idle_expires_at: string;
  expires_at: string;
  reason: EndReason | null;
}

/** A recorded transition of the session. */
export interface Transition {
  position: number;
  version: number;
  event: string;
  source: SessionState | null;
  target: SessionState;
  at: string;
  actor: string;
  data: Record<string, unknown>;
  digest: string;
}

export interface Hello {
  connection_id: string;
  session_id: string;
  state: SessionState;
  version: number;
  receipt: Receipt;
}

export interface VisitorEvents {
  /** Somebody has logged in, in whichever tab. */
  login: Session;
  /** The session has ended. */
  ended: Ended;
  /** The server could not be asked; the client retries. */
  trouble: Problem;
}

export interface SessionEvents {
  /** The state of the lifecycle has changed. */
  state: SessionState;
  /** The token could not be refreshed. With the recovery `retry_later`, the client retries, and the session goes on. */
  trouble: Problem;
}

export interface SocketEvents {
  /** It is connected, or connected again. */
  open: Hello;
  /** The connection is lost. The client connects again `at` this time, in ms. */
  down: Trouble & { at: number };
  /** Something was recorded for the session. */
  transition: Transition;
  /** It will not reconnect. */
  closed: Trouble;
}

/** An EventTarget whose events carry `detail`. */
export interface Target<Events> extends Omit<EventTarget, "addEventListener"> {
  addEventListener<Name extends keyof Events & string>(
    type: Name,
    listener: (event: CustomEvent<Events[Name]>) => void,
    options?: AddEventListenerOptions | boolean,
  ): void;
}
