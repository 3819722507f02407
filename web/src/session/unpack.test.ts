import { expect, it } from "vitest";
import { InOrder, unpack } from "./unpack";

const packed = (text: string | Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> =>
  new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"))).arrayBuffer();

it("a frame says the same when it was compressed", async () => {
  const text = JSON.stringify({ type: "delta", text: "é𝄞 again ".repeat(20_000) });
  expect(await unpack(await packed(text))).toBe(text);
});

it("what is cut off, is no text, or says more than a frame may, is refused", async () => {
  const whole = await packed("x".repeat(5000));
  await expect(unpack(whole.slice(0, whole.byteLength - 2))).rejects.toThrow();
  await expect(unpack(await packed(new Uint8Array([0xff, 0xfe])))).rejects.toThrow();
  const bomb = await packed(new Uint8Array(8 * 1024 * 1024));
  expect(bomb.byteLength).toBeLessThan(10_000);
  await expect(unpack(bomb, 1024 * 1024)).rejects.toThrow("more than 1048576 bytes");
});

it("frames are handed on in their order, whether they were compressed or not", async () => {
  const [second, fourth, fifth] = await Promise.all(
    [`2 ${"x".repeat(500_000)}`, "4 short", `5 ${"x".repeat(90_000)}`].map(packed),
  );
  const taken: string[] = [];
  const done = new Promise<void>((resolve) => {
    const order = new InOrder((text) => {
      taken.push(text.slice(0, 2));
      if (text === "6") resolve();
    }, () => expect.unreachable());
    order.add("1");
    expect(taken).toEqual(["1"]);
    order.add(second!);
    order.add("3");
    order.add(fourth!);
    order.add(fifth!);
    order.add("6");
  });
  await done;
  expect(taken).toEqual(["1", "2 ", "3", "4 ", "5 ", "6"]);
});

it("a frame that cannot be read is told in its turn", async () => {
  const first = await packed("first");
  const seen: string[] = [];
  await new Promise<void>((resolve) => {
    const order = new InOrder(
      (text) => seen.push(text),
      () => {
        seen.push("failed");
        resolve();
      },
    );
    order.add(first);
    order.add(new Uint8Array([0xff, 0xff]).buffer);
  });
  expect(seen).toEqual(["first", "failed"]);
});
