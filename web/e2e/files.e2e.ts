/** Files on prompts: chosen, pasted, dropped, taken back; shown in the session, with what the agent published. */
import type { Page } from "playwright-core";
import { beforeAll, expect, it } from "vitest";
import { expectComplaint, person } from "./world/people";
import { addRepository, farmShop } from "./world/repositories";
import { shoot } from "./world/shots";

const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==", "base64");
const PAGE = "<script>document.title = 'run'</script>";
let ada: Page;

beforeAll(async () => {
  addRepository("gallery", farmShop({ ticks: 2, pauseMs: 10 }));
  ada = await person("Ada Archer");
});

const chips = (page: Page) => page.getByTestId("attaching");
const ready = (page: Page, count: number) => expect.poll(() => page.locator("[data-testid=attaching][data-state=ready]").count()).toBe(count);

it("files are attached to the first prompt, and one is taken back by keyboard", async () => {
  await ada.goto("/?repository=gallery");
  await ada.getByTestId("attach-input").setInputFiles([
    { name: "shot.png", mimeType: "image/png", buffer: PNG },
    { name: "page.html", mimeType: "text/html", buffer: Buffer.from(PAGE) },
    { name: "wrong.txt", mimeType: "text/plain", buffer: Buffer.from("not this one") },
  ]);
  await ready(ada, 3);
  await shoot(ada, "files-to-send");
  await ada.getByRole("button", { name: "Remove wrong.txt" }).focus();
  await ada.keyboard.press("Enter");
  await expect.poll(() => chips(ada).count()).toBe(2);
  await ada.getByLabel("Prompt").fill("hello");
  await ada.getByLabel("Prompt").press("Control+Enter");
  await ada.waitForURL("**/sessions/*");
  const picture = ada.getByTestId("attachments").getByRole("img", { name: "shot.png" });
  await expect.poll(() => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)).toBe(1);
  await ada.locator("[data-testid=turn-end][data-outcome=completed]").waitFor();
});

it("a page that somebody attached is a download and never a page of ours", async () => {
  const link = ada.getByTestId("attachments").getByRole("link", { name: /page\.html/ });
  const answer = await ada.request.get((await link.getAttribute("href")) ?? "");
  expect(answer.headers()).toMatchObject({ "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" });
  expect(answer.headers()["content-disposition"]).toMatch(/^attachment;/);
  expect(answer.headers()["content-security-policy"]).toContain("sandbox");
  expect(await answer.text()).toBe(PAGE);
});

it("pasted and dropped files join the next prompt, and the agent's file is shown", async () => {
  const give = (kind: "paste" | "drop", name: string) =>
    ada.getByTestId("attach-area").evaluate(
      (area, { kind, name }) => {
        const data = new DataTransfer();
        data.items.add(new File([`from ${kind}`], name, { type: "text/plain" }));
        const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }) : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        area.dispatchEvent(event);
      },
      { kind, name },
    );
  await give("paste", "pasted.txt");
  await give("drop", "dropped.txt");
  await ready(ada, 2);
  await ada.getByLabel("Prompt").fill("publish AGENTS.md");
  await ada.getByLabel("Prompt").press("Enter");
  await ada.getByTestId("attachments").getByText("dropped.txt").waitFor();
  await expect.poll(() => chips(ada).count()).toBe(0);
  const artifact = ada.getByTestId("artifact");
  await artifact.getByText("What you asked for").waitFor();
  const [download] = await Promise.all([ada.waitForEvent("download"), artifact.getByRole("link").click()]);
  expect(download.suggestedFilename()).toBe("AGENTS.md");
  await shoot(ada, "files-in-session");
});

it("what the server refuses says why and can be taken away", async () => {
  expectComplaint(/status of 413 .*name=huge\.bin/);
  await ada.getByTestId("attach-input").setInputFiles({ name: "huge.bin", mimeType: "application/octet-stream", buffer: Buffer.alloc(21 * 1024 * 1024, 1) });
  await chips(ada).getByText("larger than 20 MiB").waitFor();
  await ada.getByLabel("Prompt").fill("with it");
  expect(await ada.getByRole("button", { name: "Send" }).isDisabled()).toBe(true);
  await ada.getByRole("button", { name: "Remove huge.bin" }).click();
  await expect.poll(() => ada.getByRole("button", { name: "Send" }).isDisabled()).toBe(false);
});
