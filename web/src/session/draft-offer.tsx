/** Text that was typed here and lost to what the same person typed elsewhere: it can be had back. */
import { useSyncExternalStore } from "react";
import { Button, IconButton } from "../ui/basics";
import { Icon } from "../ui/icon";
import type { DraftBox } from "./draft";

export function DraftOffer({ box }: { box: DraftBox }) {
  const { offered } = useSyncExternalStore(box.subscribe, box.read);
  if (offered === null) return null;
  return (
    <div role="status" data-testid="draft-offer" className="flex items-center gap-2 rounded-xl border border-line bg-raised py-1.5 pl-3 pr-1.5">
      <Icon name="edit" className="size-[18px] shrink-0 text-ink-3" />
      <p className="min-w-0 flex-1 text-[13.5px]">
        You typed this elsewhere last. Here it was: <q className="wrap-anywhere line-clamp-2 text-ink-2">{offered}</q>
      </p>
      <Button onClick={() => box.takeOffered()}>Put it back</Button>
      <IconButton label="Let it go" icon="cross" onClick={() => box.dropOffered()} />
    </div>
  );
}
