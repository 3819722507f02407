import { expect, it } from "vitest";
import type { ModelView } from "../api/types";
import { effortChoices, modelChoices } from "./model-choice";

const model = (name: string, more: Partial<ModelView> = {}): ModelView => ({
  name,
  provider: "anthropic",
  model: name,
  has_key: true,
  is_default: false,
  efforts: ["low", "high"],
  context_window: 1000,
  sees_images: true,
  uses_tools: true,
  has_price: true,
  is_small: false,
  ...more,
});
const values = (choices: { value: string }[]) => choices.map(({ value }) => value);

it("models without tools are not offered, and one that was removed is still shown", () => {
  const models = [model("a"), model("deaf", { uses_tools: false })];
  expect(values(modelChoices(models, null))).toEqual(["", "a"]);
  expect(modelChoices(models, "gone").at(-1)).toEqual({ value: "gone", label: "gone (removed)" });
  expect(values(modelChoices(models, "deaf"))).toEqual(["", "a", "deaf"]);
});

it("efforts are those of the chosen model, or of the default one", () => {
  const models = [model("a", { is_default: true, effort: "high" }), model("plain", { efforts: [] })];
  expect(effortChoices(models, null)[0]).toEqual({ value: "", label: "Effort: high" });
  expect(values(effortChoices(models, "a"))).toEqual(["", "low", "high"]);
  expect(effortChoices(models, "plain")).toEqual([]);
  expect(effortChoices(models, "gone")).toEqual([]);
});
