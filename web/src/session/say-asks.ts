/** What the agent asks and what became of it, in words. Pure. */
import type { Answer, Asked } from "../api/types";
import type { AskItem } from "./state";

/** What became of an ask. */
export function answerText(item: AskItem): string {
  switch (item.end?.kind) {
    case "answered":
      return `${item.end.name} ${saidText(item.end.answer, item.of)}`;
    case "expired":
      return "Nobody answered in time.";
    case "ended":
      return "The turn ended before anybody answered.";
    default:
      return "";
  }
}

function saidText(answer: Answer, of: Asked): string {
  switch (answer.kind) {
    case "chosen": {
      const headers = of.kind === "questions" ? of.questions.map(({ header }) => header) : [];
      const said = answer.answers.map(({ chosen, text }) => [...(chosen ?? []), ...(text ? [text] : [])].join("; "));
      return `answered: ${said.map((words, index) => (said.length > 1 ? `${headers[index]}: ${words}` : words)).join(" · ")}`;
    }
    case "once":
      return "allowed it once.";
    case "always":
      return "allowed it for this session.";
    case "deny":
      return answer.feedback ? `denied it: ${answer.feedback}` : "denied it.";
  }
}

/** How long an answer is still waited for. */
export function waitText(leftMs: number): string {
  if (leftMs <= 0) return "time is up";
  const seconds = Math.ceil(leftMs / 1000);
  if (seconds < 60) return `${seconds} s left`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 120 ? `${minutes} min left` : `${Math.round(minutes / 60)} h left`;
}
