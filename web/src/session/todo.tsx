/** The agent's todo list: one line, opened the whole list. */
import type { TodoItem } from "../api/types";
import { Icon, type IconName } from "../ui/icon";

const MARKS: Record<TodoItem["status"], { icon: IconName; look: string; word: string }> = {
  pending: { icon: "circle", look: "text-ink-3", word: "to do" },
  in_progress: { icon: "arc", look: "text-accent", word: "in progress" },
  done: { icon: "check", look: "text-accent", word: "done" },
};

export function TodoBar({ items, isRunning }: { items: readonly TodoItem[]; isRunning: boolean }) {
  const done = items.filter((item) => item.status === "done").length;
  const current = items.find((item) => item.status === "in_progress");
  if (!isRunning && done === items.length) return null;
  return (
    <details className="card group" data-testid="todo">
      <summary className="flex min-h-10 list-none items-center gap-2 px-3 text-[14px]">
        <Icon name="list" className="size-[18px] text-ink-3" />
        <span className="tabular-nums text-ink-2">
          {done} of {items.length} done
        </span>
        {current && <span className="min-w-0 flex-1 truncate">{current.text}</span>}
        <Icon name="chevron" className="ml-auto size-4 text-ink-3 transition-transform group-open:rotate-90" />
      </summary>
      <div className="max-h-60 overflow-y-auto px-3 pb-2.5">
        <TodoList items={items} />
      </div>
    </details>
  );
}

export function TodoList({ items }: { items: readonly TodoItem[] }) {
  return (
    <ul className="space-y-1">
      {items.map((item, index) => {
        const mark = MARKS[item.status];
        return (
          <li key={`${index}:${item.text}`} className="flex gap-2">
            <Icon name={mark.icon} className={`mt-0.5 size-[18px] ${mark.look}`} />
            <span className={item.status === "done" ? "text-ink-3 line-through" : ""}>
              {item.text}
              <span className="sr-only">, {mark.word}</span>
            </span>
          </li>
        );
      })}
    </ul>
  );
}
