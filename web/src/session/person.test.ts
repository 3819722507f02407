/** What of one person a tab keeps when another one signs in. */
import { afterEach, beforeEach, expect, it, vi } from "vitest";

/** A tab's storage outlives the page. */
function storage(): Storage {
  const kept = {} as Record<string, string>;
  const own = (value: unknown) => ({ value, enumerable: false });
  return Object.defineProperties(kept, {
    getItem: own((key: string) => kept[key] ?? null),
    setItem: own((key: string, value: string) => void (kept[key] = value)),
    removeItem: own((key: string) => void delete kept[key]),
  }) as unknown as Storage;
}

class Socket {
  static OPEN = 1;
  static last: Socket | undefined;
  readyState = 0;
  onmessage: ((message: { data: string }) => void) | null = null;
  constructor() {
    Socket.last = this;
  }
  close(): void {}
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("sessionStorage", storage());
});
afterEach(() => vi.useRealTimers());

/** The page, loaded anew. */
async function page(person: string) {
  vi.resetModules();
  const [{ comes }, draft, secret] = await Promise.all([import("../lib/person"), import("./draft"), import("../lib/share-secret")]);
  comes(person);
  return { ...draft, ...secret };
}

it("what somebody typed in this tab is there for them and for nobody else", async () => {
  const ada = await page("ada");
  new ada.DraftBox("ses_1", () => {}).type("sell the orchard");
  const ben = await page("ben");
  expect(new ben.DraftBox("ses_1", () => {}).read().text).toBe("");
  const again = await page("ada");
  expect(new again.DraftBox("ses_1", () => {}).read().text).toBe("sell the orchard");
});

it("who leaves takes drafts and an unused share link along", async () => {
  const ada = await page("ada");
  new ada.DraftBox("ses_1", () => {}).type("sell the orchard");
  ada.keepShareSecret("#grl_secret");
  ada.forgetDrafts();
  expect(Object.keys(sessionStorage)).toEqual([]);
  expect(ada.keptShareSecret()).toBe("");
});

it("a session's stream that says that the sign-in is over leads to the sign-in", async () => {
  vi.useRealTimers();
  vi.stubGlobal("WebSocket", Socket);
  vi.stubGlobal("location", { protocol: "http:", host: "localhost" });
  for (const name of ["window", "document"]) vi.stubGlobal(name, { addEventListener: () => {}, removeEventListener: () => {} });
  await page("ada");
  const [{ setSignedOutHandler }, { SessionStore }] = await Promise.all([import("../api/client"), import("./store")]);
  const onSignedOut = vi.fn();
  setSignedOutHandler(onSignedOut);
  const release = new SessionStore("ses_1").retain();
  Socket.last?.onmessage?.({ data: JSON.stringify({ type: "error", problem: { code: "not_signed_in", message: "Over." } }) });
  await expect.poll(() => onSignedOut.mock.calls.length).toBe(1);
  release();
});
