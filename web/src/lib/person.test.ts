import { beforeEach, expect, it, vi } from "vitest";

/** As browsers have it: every other channel of the name hears. */
class Channel {
  static all: Channel[] = [];
  onmessage: ((message: { data: unknown }) => void) | undefined;
  constructor(readonly name: string) {
    Channel.all.push(this);
  }
  postMessage(data: unknown): void {
    for (const other of Channel.all) if (other !== this && other.name === this.name) other.onmessage?.({ data });
  }
}

beforeEach(() => {
  Channel.all = [];
  vi.stubGlobal("BroadcastChannel", Channel);
});

/** A tab, and whom it was left for. */
async function tab() {
  vi.resetModules();
  const person = await import("./person");
  const left: string[] = [];
  person.watchPerson((next) => left.push(next));
  return { ...person, left };
}

it("a sign-out in one tab, or somebody else's sign-in, ends what the others show", async () => {
  const [one, other, stranger] = [await tab(), await tab(), await tab()];
  one.comes("ada");
  other.comes("ada");
  one.announce("ada");
  expect(other.left, "the same person").toEqual([]);
  one.announce("");
  expect(other.left).toEqual([""]);
  one.announce("ben");
  expect(other.left, "it shows nobody's any more").toEqual([""]);
  stranger.announce("cid");
  expect([one.left, other.left, stranger.left]).toEqual([["cid"], [""], []]);
});

it("a page that finds out by itself that the cookie is another person's leaves too", async () => {
  const one = await tab();
  one.comes("ada");
  one.comes("ada");
  one.comes("ben");
  expect(one.left).toEqual(["ben"]);
  one.goes();
  one.comes("ada");
  expect(one.left, "after a sign-in that ended, whoever comes is the first").toEqual(["ben"]);
});
