/**
 * For back ends in Node: whose request it is, with the session's state, and an end to what is open when the session ends.
 *
 * `follow` begins to follow the ends of sessions. Nothing here trusts a signature alone: a token is introspected, and what was found
 * is believed only for a short while, and only while the ends of sessions arrive.
 */
import type { IncomingMessage, ServerResponse } from "node:http";

export interface Options {
  /** The URL of the Interlock server. */
  url: string;
  /** The secret for introspection: `interlock clients create NAME`. */
  client: string;
  /** The secret to follow the ends of sessions: `interlock subscribers create NAME --scope session-ends`. */
  subscriber: string;
  /** Whether sessions without an account are served. */
  allowAnonymous?: boolean;
  /** When the server has been silent for this long, everything that is open is closed. 60 seconds by default. */
  staleAfterS?: number;
  /** How long a token that was found good is believed. 10 seconds by default. */
  cacheS?: number;
}

/** Whose request it is. `subject` is the account, or `anonymous:…`; `tokenExpiresAt` in seconds since the Unix epoch. */
export interface Session {
  sessionId: string;
  subject: string;
  state: string;
  tokenExpiresAt: number;
}

/** Why a request is not served: a status, and a problem document that clients of Interlock understand. */
export class Refused extends Error {
  readonly status: number;
  readonly problem: { type: string; title: string; status: number; recovery: string };
}

/** What is needed of a WebSocket. Those of `ws` have it. */
export interface Socket {
  close(code: number, reason: string): void;
  on(event: "close" | "error", listener: (...about: never[]) => void): unknown;
  pause?(): void;
  resume?(): void;
  terminate?(): void;
  removeAllListeners?(event: string): unknown;
}

export interface Sessions {
  /**
   * Return the session of a new WebSocket, or null after closing it because it has none. From then on, the end of the session
   * closes the socket with 4403. Messages wait until the socket's listeners are attached, right after this.
   */
  guard(socket: Socket, request: IncomingMessage): Promise<Session | null>;
  /**
   * Serve only requests of live sessions: a middleware for Express and everything like it. `request.interlock` is the session.
   * A response that streams is cut short when the session ends.
   */
  middleware(request: IncomingMessage & { interlock?: Session }, response: ServerResponse, next: () => void): Promise<void>;
  /** Stop following. */
  close(): void;
}

/** Begin to follow the ends of sessions. */
export function follow(options: Options): Sessions;
