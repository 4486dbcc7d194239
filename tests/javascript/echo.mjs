// The same back end as tests/clients/echo.py, for tests of the kit for Node.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { follow } from "../../interlock/node/interlock-backend.js";

const EVERY_MS = 50;
const { INTERLOCK, CLIENT, SUBSCRIBER, STALE_AFTER_S = "60" } = process.env;
const sessions = follow({ url: INTERLOCK, client: CLIENT, subscriber: SUBSCRIBER, staleAfterS: Number(STALE_AFTER_S) });

const server = createServer((request, response) =>
  sessions.middleware(request, response, () => {
    const { subject } = request.interlock;
    if (request.url !== "/stream") return response.end(subject);
    const streaming = setInterval(() => response.write(`${subject}\n`), EVERY_MS);
    response.on("close", () => clearInterval(streaming));
  }),
);

new WebSocketServer({ server }).on("connection", async (socket, request) => {
  const session = await sessions.guard(socket, request);
  if (session === null) return;
  if (request.url === "/deaf") {
    const pushing = setInterval(() => socket.send("tick"), EVERY_MS);
    socket.on("close", () => clearInterval(pushing));
    return;
  }
  socket.on("message", (message) => socket.send(message.toString()));
  socket.send(`hello ${session.subject}`);
});

server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
