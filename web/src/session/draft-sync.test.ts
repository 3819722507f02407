import { expect, it } from "vitest";
import { cutOff, type DraftState, due, failed, type Kept, NO_DRAFT, takeOffered, told, typed } from "./draft-sync";

/** As the server's directory keeps one. */
class Server {
  kept: Kept = { text: "", revision: 0 };
  private next = 1;

  write({ text, revision }: Kept): { kept: Kept; isRefused: boolean; isChanged: boolean } {
    if (this.kept.text === text) return { kept: this.kept, isRefused: false, isChanged: false };
    const isRefused = this.kept.revision !== 0 && this.kept.revision !== revision;
    if (!isRefused) this.set(text);
    return { kept: this.kept, isRefused, isChanged: !isRefused };
  }

  /** A prompt was taken. */
  take(text: string): boolean {
    if (this.kept.text === "" || this.kept.text.trim() !== text.trim()) return false;
    this.set("");
    return true;
  }

  private set(text: string): void {
    this.kept = { text, revision: this.next++ };
  }
}

/** One client with its connection: two ways in which things arrive late, each in order. */
class Client {
  state: DraftState = NO_DRAFT;
  news: Kept[] = [];
  answers: { kept: Kept; isRefused: boolean }[] = [];
  writes: Kept[] = [];
  isConnected = false;

  set(state: DraftState): void {
    this.state = state;
  }
}

/** Numbers that are the same for the same seed (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let a = seed;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function play(seed: number, steps: number) {
  const random = randomOf(seed);
  const server = new Server();
  const clients = [new Client(), new Client(), new Client()];
  const tell = () => clients.filter((client) => client.isConnected).forEach((client) => client.news.push(server.kept));
  const connect = (client: Client) => {
    Object.assign(client, { isConnected: true, news: [], answers: [], writes: [] });
    client.set(told(cutOff(client.state), server.kept));
  };
  const send = (client: Client) => {
    const now = client.isConnected ? due(client.state) : null;
    if (!now) return;
    client.set(now.state);
    client.writes.push(now.write);
  };
  const arrive = (client: Client) => {
    const write = client.writes.shift();
    if (!write) return;
    const { kept, isRefused, isChanged } = server.write(write);
    if (isChanged) tell();
    client.answers.push({ kept, isRefused });
  };
  const hear = (client: Client) => {
    const kept = client.news.shift();
    if (kept) client.set(told(client.state, kept));
  };
  const learn = (client: Client) => {
    const answer = client.answers.shift();
    if (answer) client.set(told(client.state, answer.kept, answer.isRefused));
  };
  for (let step = 0; step < steps; step++) {
    const client = clients[random(clients.length)]!;
    const act = [
      () => client.set(typed(client.state, `${client.state.text}${"abcdef"[random(6)]}`)),
      () => client.set(typed(client.state, random(3) === 0 ? "" : client.state.text.slice(0, -1))),
      () => send(client),
      () => arrive(client),
      () => hear(client),
      () => learn(client),
      () => (random(4) === 0 ? connect(client) : send(client)),
      () => {
        if (random(6) === 0) client.isConnected = false;
      },
      () => {
        // Sends what is in the box as a prompt.
        if (random(6) !== 0 || !client.isConnected) return;
        const sent = client.state.text;
        client.set(typed(client.state, ""));
        if (server.take(sent)) tell();
      },
    ][random(9)]!;
    act();
  }
  // The person stops typing, and everything is connected: until nothing is on its way.
  clients.forEach(connect);
  for (let round = 0; round < 50; round++) {
    for (const client of clients) {
      send(client);
      arrive(client);
      while (client.news.length > 0) hear(client);
      learn(client);
    }
  }
  return { server, clients };
}

it("whatever two or three clients type, however late it arrives, all end with what the server keeps", () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const { server, clients } = play(seed, 120);
    for (const client of clients) expect([client.state.text, due(client.state)], `seed ${seed}`).toEqual([server.kept.text, null]);
  }
});

it("the client whose text loses offers it, and putting it back offers the other", () => {
  const kept = { text: "from the phone", revision: 2 };
  const here = told({ ...told(NO_DRAFT, { text: "", revision: 0 }), text: "typed here" }, kept);
  expect([here.text, here.offered]).toEqual(["from the phone", "typed here"]);
  const back = takeOffered(here);
  expect([back.text, back.offered]).toEqual(["typed here", "from the phone"]);
  expect(due(back)?.write).toEqual({ text: "typed here", revision: 2 });
});

it("what is typed while a write is on its way stays, and is sent on top of it", () => {
  const known = told(NO_DRAFT, { text: "", revision: 0 });
  const sent = due(typed(known, "he"))!;
  const more = typed(sent.state, "hello");
  expect(due(more), "one at a time").toBeNull();
  const answered = told(more, { text: "he", revision: 1 });
  expect([answered.text, due(answered)?.write]).toEqual(["hello", { text: "hello", revision: 1 }]);
});

it("a draft that was sent elsewhere does not take what is typed here meanwhile", () => {
  const synced = told(NO_DRAFT, { text: "go", revision: 1 });
  expect(told(synced, { text: "", revision: 2 }).text).toBe("");
  expect(told(typed(synced, "next"), { text: "", revision: 2 })).toMatchObject({ text: "next", offered: null });
});

it("a write that failed is sent again", () => {
  const sent = due(typed(told(NO_DRAFT, { text: "", revision: 0 }), "a"))!.state;
  expect(due(failed(sent))?.write.text).toBe("a");
});

it("a server that was set back to an older state takes nothing out of the box", () => {
  const synced = told(NO_DRAFT, { text: "long ago and today", revision: 9 });
  const back = told(cutOff(synced), { text: "long ago", revision: 3 });
  expect([back.text, back.offered]).toEqual(["long ago", "long ago and today"]);
  expect(told(cutOff(synced), { text: "", revision: 0 }).text).toBe("long ago and today");
});
