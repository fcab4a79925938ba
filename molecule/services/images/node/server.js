// News on plain Node: a page, a late one, a letter to the editor, and a stream of events.
"use strict";

const http = require("node:http");
const os = require("node:os");

const answers = {
  host: os.hostname(),
  version: process.env.APP_VERSION,
  mode: process.env.MODE || "",
};

function wait(seconds) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
}

async function answer(request, response) {
  const [, , page, seconds] = request.url.split("/");
  request.resume();
  if (page === "wait") {
    await wait(Number(seconds));
  } else if (page === "events") {
    // Two events, and silence between them.
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    response.write("data: first\n\n");
    await wait(Number(seconds));
    response.end("data: second\n\n");
    return;
  }
  response.writeHead(process.env.MODE === "broken" ? 500 : 200, { "Content-Type": "application/json" });
  response.end(JSON.stringify(answers));
}

http.createServer(answer).listen(3000);
