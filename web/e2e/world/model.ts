/**
 * A model's server of this machine, in the protocol of Chat Completions. It answers a prompt with its own words, one that
 * says "run: COMMAND" with that command first, and one that says "slowly" with a step every few milliseconds until
 * somebody stops it. One that says "begin: A | B" begins a session for each. A prompt that says "fail" it refuses, and one that says "ask" it
 * answers with a question.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const STEP_MS = 25;

export interface Model {
  baseUrl: string;
  close(): void;
}

export async function model(): Promise<Model> {
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => answer(asked(Buffer.concat(parts).toString()), response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { baseUrl: `http://127.0.0.1:${port}/v1`, close };
}

interface Message {
  role: string;
  content: string | { text?: string }[];
}

interface Asked {
  /** The last prompt, without what comes before its last line. */
  prompt: string;
  /** Its command has run. */
  isDone: boolean;
}

function asked(body: string): Asked {
  const { messages } = JSON.parse(body) as { messages: Message[] };
  const content = messages.filter(({ role }) => role === "user").at(-1)?.content ?? "";
  const text = typeof content === "string" ? content : content.map(({ text }) => text ?? "").join("");
  // A note may come first, and where several people prompt, the author's name.
  const prompt = text.trim().split("\n").at(-1)?.replace(/^\[[^\]]*\] /, "") ?? "";
  return { prompt, isDone: messages.at(-1)?.role === "tool" };
}

function answer({ prompt, isDone }: Asked, response: ServerResponse): void {
  if (prompt.includes("fail")) {
    response.writeHead(400, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ error: { message: "This model does not answer that." } }));
    return;
  }
  const say = (content: string) => send(response, { delta: { content }, finish_reason: null });
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const command = /run: (.*)/.exec(prompt)?.[1];
  if (command && !isDone) {
    const call = { index: 0, id: nextCall(), type: "function", function: { name: "bash", arguments: JSON.stringify({ command }) } };
    send(response, { delta: { tool_calls: [call] }, finish_reason: null });
    return end(response, "tool_calls");
  }
  if (/\bask\b/.test(prompt) && !isDone) {
    send(response, { delta: { tool_calls: [{ index: 0, id: nextCall(), type: "function", function: { name: "question", arguments: JSON.stringify(QUESTION) } }] }, finish_reason: null });
    return end(response, "tool_calls");
  }
  const parts = /begin: (.*)/.exec(prompt)?.[1]?.split(" | ");
  if (parts && !isDone) {
    const calls = parts.map((part, index) => ({ index, id: nextCall(), type: "function", function: { name: "spawn_session", arguments: JSON.stringify({ prompt: part, budget_percent: 20 }) } }));
    send(response, { delta: { tool_calls: calls }, finish_reason: null });
    return end(response, "tool_calls");
  }
  if (parts || !prompt.includes("slowly")) {
    say(`Answer to: ${prompt}`);
    return end(response, "stop");
  }
  let step = 0;
  const steps = setInterval(() => {
    step += 1;
    say(`step ${step}\n\n`);
  }, STEP_MS);
  response.on("close", () => clearInterval(steps));
}

let calls = 0;
/** No two calls of a session have the same. */
const nextCall = () => `call_${++calls}`;

const QUESTION = {
  questions: [
    {
      header: "Database",
      text: "Where should the orders be kept? The tests need one that they can throw away.",
      options: [
        { label: "SQLite in a file", description: "Nothing to install; one writer at a time." },
        { label: "PostgreSQL", description: "As in production; a service of the environment." },
        { label: "In memory" },
      ],
      takes_text: true,
    },
    { header: "Checks", text: "What should run before the change is opened?", options: [{ label: "Tests" }, { label: "Linter" }], is_multiple: true },
  ],
};

const USAGE = { prompt_tokens: 1200, completion_tokens: 34 };

function end(response: ServerResponse, reason: string): void {
  send(response, { delta: {}, finish_reason: reason });
  response.write(`data: ${JSON.stringify({ ...CHUNK, choices: [], usage: USAGE })}\n\n`);
  response.end("data: [DONE]\n\n");
}

const CHUNK = { id: "answer", object: "chat.completion.chunk", created: 0, model: "scribe" };

function send(response: ServerResponse, choice: { delta: object; finish_reason: string | null }): void {
  response.write(`data: ${JSON.stringify({ ...CHUNK, choices: [{ index: 0, ...choice }] })}\n\n`);
}
