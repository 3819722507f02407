/** A session as one file: taken out, brought in, and where an imported one comes from. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useId, useRef, useState } from "react";
import { newKey } from "../api/client";
import { sessionsQuery } from "../api/queries";
import type { ImportPoint, RepositoryView } from "../api/types";
import { exportUrl, importSession } from "../api/upload";
import { Ago, Button, ErrorBox, SelectField } from "../ui/basics";
import { Icon } from "../ui/icon";
import { Section } from "./details";
import { useRights } from "./rights";

export function Export({ id }: { id: string }) {
  const { mayShare } = useRights(id);
  if (!mayShare) return null;
  return (
    <Section title="Export">
      <p className="mb-2 text-ink-2">One file with the conversation, its files and the commits of its branch, to go on with elsewhere. What was not pushed stays here.</p>
      <a href={exportUrl(id)} download className="inline-flex min-h-10 items-center justify-center gap-2 rounded-[10px] border border-line px-3.5 hover:bg-sunken">
        <Icon name="down" className="size-[18px]" /> Export this session
      </a>
    </Section>
  );
}

export function ImportForm({ repositories }: { repositories: readonly RepositoryView[] }) {
  const id = useId();
  const [file, setFile] = useState<File | null>(null);
  const [repository, setRepository] = useState("");
  const [share, setShare] = useState(0);
  const navigate = useNavigate();
  const queries = useQueryClient();
  // The same key until something else is to be sent: a repeated click after a lost answer makes no second session.
  const key = useRef<string>(undefined);
  const leaving = useRef(new AbortController());
  useEffect(() => {
    const here = (leaving.current = new AbortController());
    return () => here.abort(new Error("The page was left."));
  }, []);
  const give = useMutation({
    mutationFn: (chosen: File) => importSession(chosen, repository, (key.current ??= newKey()), setShare, leaving.current.signal),
    onSuccess: async (session) => {
      void queries.invalidateQueries({ queryKey: sessionsQuery.queryKey, exact: true });
      await navigate({ to: "/sessions/$id", params: { id: session.id } });
    },
  });
  const change = () => {
    key.current = undefined;
    give.reset();
  };
  const choices = [{ value: "", label: "The one it was about" }, ...repositories.map(({ name }) => ({ value: name, label: name }))];
  return (
    <form
      aria-label="Import a session"
      className="card mb-3 grid gap-3 p-4"
      onSubmit={(event) => {
        event.preventDefault();
        if (file) give.mutate(file);
      }}
    >
      <div>
        <label htmlFor={id} className="mb-1 block text-sm font-medium">
          Exported session
        </label>
        <input
          id={id}
          type="file"
          className="field"
          required
          onChange={(event) => {
            change();
            setFile(event.target.files?.[0] ?? null);
          }}
        />
      </div>
      <SelectField
        label="Repository"
        value={repository}
        choices={choices}
        onChange={(value) => {
          change();
          setRepository(value);
        }}
      />
      <ErrorBox error={give.error} />
      <div className="flex flex-wrap items-center gap-3">
        <Button type="submit" look="primary" isBusy={give.isPending} disabled={!file}>
          Import
        </Button>
        <p role="status" className="text-[14px] text-ink-2">
          {give.isPending ? (share < 1 ? `${Math.floor(share * 100)} % sent` : "Checking the file") : "The new session is yours, and nothing in it runs by itself."}
        </p>
      </div>
    </form>
  );
}

export function ImportedFrom({ from }: { from: ImportPoint }) {
  return (
    <p data-testid="imported-from" className="mb-6 flex items-center gap-2 rounded-xl border border-line bg-raised px-3.5 py-2.5 text-[14px] text-ink-2">
      <Icon name="archive" className="size-[18px] text-ink-3" />
      <span className="min-w-0 break-words">
        Imported from a file that {from.exported_by} exported <Ago atMs={from.exported_at_ms} />
        {from.work ? ", with its conversation and its commits. " : ", with its conversation; its files begin at the base branch. "}
        Names and words are as the file has them.
      </span>
    </p>
  );
}
