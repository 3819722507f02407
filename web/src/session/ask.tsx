/** What the agent asks people: the card that is answered, and what it becomes afterwards. The first answer counts. */
import { createContext, type FormEvent, type ReactNode, useContext, useId, useMemo, useState } from "react";
import { problemOf } from "../api/client";
import type { Answer, Asked, Command, Problem, Question, QuestionAnswer } from "../api/types";
import { Badge, Button, ProblemBox, useSeconds } from "../ui/basics";
import { Icon } from "../ui/icon";
import { useRights } from "./rights";
import { answerText, waitText } from "./say-asks";
import type { AskItem } from "./state";
import type { SessionStore } from "./store";

interface Answering {
  give: (command: Command) => Promise<unknown>;
  mayAnswer: boolean;
}
const AnsweringContext = createContext<Answering | null>(null);

/** Around the conversation: its cards answer through this session's commands. */
export function AnsweringProvider({ store, children }: { store: SessionStore; children: ReactNode }) {
  const { mayPrompt } = useRights(store.id);
  const answering = useMemo(() => ({ give: (command: Command) => store.command(command), mayAnswer: mayPrompt }), [store, mayPrompt]);
  return <AnsweringContext value={answering}>{children}</AnsweringContext>;
}

export function AskCard({ item }: { item: AskItem }) {
  const answering = useContext(AnsweringContext);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const heading = useId();
  const isOpen = item.end === null;
  const answer = async (given: Answer) => {
    setProblem(null);
    setBusy(true);
    try {
      await answering?.give({ type: "answer", ask: item.ask, answer: given });
    } catch (error) {
      const reason = problemOf(error);
      // Somebody was quicker: the entry that says so is on its way.
      if (reason.code !== "ask_closed") setProblem(reason);
    }
    setBusy(false);
  };
  const form = { isBusy, isEnabled: isOpen && answering?.mayAnswer === true, answer };
  return (
    <section aria-labelledby={heading} data-testid="ask" data-open={isOpen} className={`mt-4 rounded-2xl border px-4 py-3.5 ${isOpen ? "border-warn/50 bg-warn-soft" : "border-line bg-surface"}`}>
      <h3 id={heading} className="flex flex-wrap items-center gap-2 font-medium">
        <Icon name="question" className={`size-5 ${isOpen ? "text-warn" : "text-ink-3"}`} />
        <span className="flex-1">{item.of.kind === "permission" ? "The agent asks for leave" : "The agent asks"}</span>
        {isOpen && <TimeLeft untilMs={item.expiresAtMs} />}
      </h3>
      {item.of.kind === "permission" ? <Leave of={item.of} form={form} isOpen={isOpen} /> : <Questions questions={item.of.questions} form={form} isOpen={isOpen} />}
      {problem && <ProblemBox problem={problem} onDismiss={() => setProblem(null)} className="mt-3" />}
      {isOpen && answering && !answering.mayAnswer && <p className="mt-2 text-[13.5px] text-ink-2">Whoever takes part in this session can answer.</p>}
      {item.end && (
        <p className="mt-2 flex items-start gap-1.5 text-ink-2" data-testid="ask-end">
          <Icon name={item.end.kind === "answered" ? "check" : "clock"} className="mt-0.5 size-[18px]" />
          <span className="min-w-0 wrap-anywhere">{answerText(item)}</span>
        </p>
      )}
    </section>
  );
}

function TimeLeft({ untilMs }: { untilMs: number }) {
  const now = useSeconds(true);
  return (
    <span className="text-[13px] font-normal text-ink-2" data-testid="ask-left">
      {waitText(untilMs - now)}
    </span>
  );
}

interface Form {
  isBusy: boolean;
  isEnabled: boolean;
  answer: (answer: Answer) => Promise<void>;
}

type Permission = Extract<Asked, { kind: "permission" }>;

function Leave({ of, form, isOpen }: { of: Permission; form: Form; isOpen: boolean }) {
  const [feedback, setFeedback] = useState("");
  const field = useId();
  const deny = () => void form.answer({ kind: "deny", feedback: feedback.trim() === "" ? null : feedback.trim() });
  return (
    <>
      <p className="mt-1.5 wrap-anywhere">{of.title.replaceAll("`", "")}</p>
      {of.subjects.length > 0 && (
        <ul className="mt-1.5 space-y-1">
          {of.subjects.map((subject) => (
            <li key={subject} className="wrap-anywhere rounded-lg bg-surface px-2.5 py-1.5 font-mono text-[13px]">
              {subject}
            </li>
          ))}
        </ul>
      )}
      {isOpen && form.isEnabled && (
        <div className="mt-3 space-y-2.5">
          {of.grants.length > 0 && (
            <p className="text-[13.5px] text-ink-2">
              “Always” allows for the rest of this session:{" "}
              {of.grants.map((grant) => (
                <code key={grant.pattern} className="mr-1 wrap-anywhere rounded bg-surface px-1 py-0.5 font-mono text-[12.5px]">
                  {grant.permission} {grant.pattern}
                </code>
              ))}
            </p>
          )}
          <div className="flex flex-wrap gap-2">
            <Button look="primary" icon="check" disabled={form.isBusy} onClick={() => void form.answer({ kind: "once" })}>
              Allow once
            </Button>
            {of.grants.length > 0 && (
              <Button disabled={form.isBusy} onClick={() => void form.answer({ kind: "always" })}>
                Always in this session
              </Button>
            )}
          </div>
          <form
            className="flex flex-wrap items-end gap-2"
            onSubmit={(event) => {
              event.preventDefault();
              deny();
            }}
          >
            <div className="min-w-48 flex-1">
              <label htmlFor={field} className="mb-1 block text-[13.5px] text-ink-2">
                What the agent should know, if you deny it
              </label>
              <input id={field} className="field" value={feedback} maxLength={4000} onChange={(event) => setFeedback(event.target.value)} />
            </div>
            <Button type="submit" look="danger" icon="cross" disabled={form.isBusy}>
              Deny
            </Button>
          </form>
        </div>
      )}
    </>
  );
}

const EMPTY: QuestionAnswer = { chosen: [], text: null };
const isAnswered = (answer: QuestionAnswer) => (answer.chosen?.length ?? 0) > 0 || (answer.text ?? "").trim() !== "";

function Questions({ questions, form, isOpen }: { questions: Question[]; form: Form; isOpen: boolean }) {
  const [answers, setAnswers] = useState<QuestionAnswer[]>(() => questions.map(() => EMPTY));
  const set = (index: number, answer: QuestionAnswer) => setAnswers(answers.with(index, answer));
  const isComplete = answers.every(isAnswered);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!isComplete) return;
    const given = answers.map(({ chosen, text }) => ({ chosen, text: (text ?? "").trim() === "" ? null : text }));
    void form.answer({ kind: "chosen", answers: given });
  };
  return (
    <form onSubmit={submit} className="mt-1.5 space-y-4">
      {questions.map((question, index) => (
        <QuestionField key={index} question={question} answer={answers[index] ?? EMPTY} onChange={(answer) => set(index, answer)} isEnabled={isOpen && form.isEnabled && !form.isBusy} />
      ))}
      {isOpen && form.isEnabled && (
        <Button type="submit" look="primary" icon="send" isBusy={form.isBusy} disabled={!isComplete}>
          Answer
        </Button>
      )}
    </form>
  );
}

function QuestionField({ question, answer, onChange, isEnabled }: { question: Question; answer: QuestionAnswer; onChange: (answer: QuestionAnswer) => void; isEnabled: boolean }) {
  const id = useId();
  const chosen = answer.chosen ?? [];
  const options = question.options ?? [];
  const toggle = (label: string, isOn: boolean) => {
    if (!question.is_multiple) return onChange({ ...answer, chosen: [label] });
    onChange({ ...answer, chosen: isOn ? [...chosen, label] : chosen.filter((other) => other !== label) });
  };
  return (
    <fieldset disabled={!isEnabled} className="min-w-0">
      <legend className="contents">
        <Badge look="bg-surface text-ink-2">{question.header}</Badge>
        <span className="mt-1 block whitespace-pre-wrap wrap-anywhere">{question.text}</span>
      </legend>
      {options.length > 0 && isEnabled && (
        <div className="mt-2 space-y-1.5">
          {options.map(({ label, description }) => (
            <label key={label} className="flex min-h-11 cursor-pointer items-start gap-2.5 rounded-[10px] border border-line-strong bg-surface px-3 py-2 has-checked:border-accent has-checked:bg-accent-soft has-focus-visible:outline-2 has-focus-visible:outline-accent">
              <input type={question.is_multiple ? "checkbox" : "radio"} name={id} className="mt-1.5 accent-(--accent)" checked={chosen.includes(label)} onChange={(event) => toggle(label, event.target.checked)} />
              <span className="min-w-0 wrap-anywhere">
                {label}
                {description && <span className="block text-[13.5px] text-ink-2">{description}</span>}
              </span>
            </label>
          ))}
        </div>
      )}
      {question.takes_text && isEnabled && (
        <div className="mt-2">
          <label htmlFor={`${id}-text`} className="mb-1 block text-[13.5px] text-ink-2">
            {options.length > 0 ? "Or in your own words" : "Your answer"}
          </label>
          <textarea id={`${id}-text`} rows={2} maxLength={4000} className="field" value={answer.text ?? ""} onChange={(event) => onChange({ ...answer, text: event.target.value })} />
        </div>
      )}
    </fieldset>
  );
}
