/**
 * A model's server of this machine, in the protocol of Chat Completions. It answers a prompt with its own words, and one
 * that says "slowly" with a step every few milliseconds until somebody stops it.
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
    request.on("end", () => answer(lastPrompt(Buffer.concat(parts).toString()), response));
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

function lastPrompt(body: string): string {
  const { messages } = JSON.parse(body) as { messages: Message[] };
  const content = messages.filter(({ role }) => role === "user").at(-1)?.content ?? "";
  return typeof content === "string" ? content : content.map(({ text }) => text ?? "").join("");
}

function answer(prompt: string, response: ServerResponse): void {
  const say = (content: string) => response.write(`data: ${JSON.stringify(chunk({ content }, null))}\n\n`);
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  if (!prompt.includes("slowly")) {
    // A note may come first, and where several people prompt, the author's name.
    say(`Answer to: ${prompt.trim().split("\n").at(-1)?.replace(/^\[[^\]]*\] /, "")}`);
    response.end(`data: ${JSON.stringify(chunk({}, "stop"))}\n\ndata: [DONE]\n\n`);
    return;
  }
  let step = 0;
  const steps = setInterval(() => {
    step += 1;
    say(`step ${step}\n\n`);
  }, STEP_MS);
  response.on("close", () => clearInterval(steps));
}

function chunk(delta: { content?: string }, finish_reason: string | null) {
  return { id: "answer", object: "chat.completion.chunk", created: 0, model: "scribe", choices: [{ index: 0, delta, finish_reason }] };
}
