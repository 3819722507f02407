/** The session's title, changed in place by whoever may prompt. */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { api, ApiError, newKey } from "../api/client";
import { Button, ErrorBox, IconButton } from "../ui/basics";

const TITLE_LIMIT = 80;

export function Rename({ id, title }: { id: string; title: string }) {
  const [edited, setEdited] = useState<string | null>(null);
  const rename = useMutation({
    mutationFn: async (title: string) => {
      const receipt = await api.submit(id, newKey(), { type: "rename", title });
      if (receipt.problem) throw new ApiError(409, receipt.problem);
    },
    onSuccess: () => setEdited(null),
  });
  if (edited === null) {
    return (
      <span className="flex items-start gap-1">
        <span className="min-w-0 break-words">{title}</span>
        <IconButton label="Rename" icon="edit" className="-my-2.5" onClick={() => setEdited(title)} />
      </span>
    );
  }
  return (
    <form
      className="space-y-2"
      onSubmit={(event) => {
        event.preventDefault();
        rename.mutate(edited);
      }}
    >
      <ErrorBox error={rename.error} />
      <input
        aria-label="Title"
        autoFocus
        className="field"
        maxLength={TITLE_LIMIT}
        value={edited}
        onChange={(event) => setEdited(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          setEdited(null);
        }}
      />
      <span className="flex gap-2">
        <Button type="submit" look="primary" isBusy={rename.isPending} disabled={edited.trim() === ""}>
          Save
        </Button>
        <Button onClick={() => setEdited(null)}>Cancel</Button>
      </span>
    </form>
  );
}
