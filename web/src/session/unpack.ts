/** Frames that came compressed: raw deflate, each by itself, within a bound. */

/** Longer than any frame is; a few kilobytes can claim to be gigabytes. */
export const FRAME_LIMIT = 64 * 1024 * 1024;

export const canUnpack = (() => {
  try {
    new DecompressionStream("deflate-raw");
    return true;
  } catch {
    return false;
  }
})();

/** Fails when the bytes are not whole, or say more than `limit` bytes. */
export async function unpack(packed: ArrayBuffer, limit = FRAME_LIMIT): Promise<string> {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const reader = stream.getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > limit) {
      await reader.cancel();
      throw new Error(`a frame of more than ${limit} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** Hands on what came in the order in which it came, though unpacking takes a while. */
export class InOrder {
  private last: Promise<void> | undefined;
  private readonly take: (text: string) => void;
  private readonly fail: () => void;

  constructor(take: (text: string) => void, fail: () => void) {
    this.take = take;
    this.fail = fail;
  }

  add(data: string | ArrayBuffer): void {
    // Nearly always: nothing before it is being unpacked.
    if (typeof data === "string" && !this.last) {
      this.take(data);
      return;
    }
    const text = typeof data === "string" ? Promise.resolve(data) : unpack(data);
    // Its failure is seen in its turn.
    text.catch(() => undefined);
    const before = this.last ?? Promise.resolve();
    const mine = before.then(async () => {
      const whole = await text.catch(() => undefined);
      if (this.last === mine) this.last = undefined;
      if (whole === undefined) this.fail();
      else this.take(whole);
    });
    this.last = mine;
  }
}
