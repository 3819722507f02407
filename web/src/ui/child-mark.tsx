/** Marks a session that another one began. */
import { Icon } from "./icon";

export function ChildMark() {
  return (
    <span title="Begun by another session" className="inline-flex shrink-0 opacity-70" data-testid="child-mark">
      <Icon name="branch" className="size-4" />
      <span className="sr-only">Begun by another session</span>
    </span>
  );
}
