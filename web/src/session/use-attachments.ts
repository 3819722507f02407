/** Files that go with the next prompt: uploaded as soon as they are chosen, taken back, or tried again. */
import { useCallback, useEffect, useRef, useState } from "react";
import { problemOf } from "../api/client";
import type { Attachment, AttachmentRef, Problem } from "../api/types";
import { upload } from "../api/upload";

export const FILES_LIMIT = 10;

export interface Attaching {
  key: number;
  name: string;
  bytes: number;
  /** Of a picture, on this page only. */
  preview: string | null;
  /** From 0 to 1. */
  progress: number;
  file: Attachment | null;
  problem: Problem | null;
}

export interface Attachments {
  files: readonly Attaching[];
  /** Why a file was not even begun. */
  refusal: string | null;
  isBusy: boolean;
  hasFailed: boolean;
  refs: AttachmentRef[];
  add: (files: Iterable<File>) => void;
  remove: (key: number) => void;
  /** Those that were sent. */
  clear: (keys: readonly number[]) => void;
}

export function useAttachments(session: string | null): Attachments {
  const [files, setFiles] = useState<readonly Attaching[]>([]);
  const [refusal, setRefusal] = useState<string | null>(null);
  const running = useRef(new Map<number, AbortController>());
  const next = useRef(0);
  const count = useRef(0);
  count.current = files.length;
  const change = (key: number, patch: Partial<Attaching>) => setFiles((now) => now.map((one) => (one.key === key ? { ...one, ...patch } : one)));

  const add = useCallback(
    (chosen: Iterable<File>) => {
      setRefusal(null);
      for (const file of chosen) {
        if (count.current >= FILES_LIMIT) {
          setRefusal(`A prompt takes at most ${FILES_LIMIT} files.`);
          break;
        }
        if (file.size === 0) {
          setRefusal(`${file.name} is empty, or a folder.`);
          continue;
        }
        count.current += 1;
        const key = next.current++;
        const abort = new AbortController();
        running.current.set(key, abort);
        const preview = file.type.startsWith("image/") && file.type !== "image/svg+xml" ? URL.createObjectURL(file) : null;
        setFiles((now) => [...now, { key, name: file.name || "pasted.png", bytes: file.size, preview, progress: 0, file: null, problem: null }]);
        upload(session, file, (progress) => change(key, { progress }), abort.signal)
          .then((kept) => change(key, { file: kept, progress: 1 }))
          .catch((error: unknown) => abort.signal.aborted || change(key, { problem: problemOf(error) }))
          .finally(() => running.current.delete(key));
      }
    },
    [session],
  );
  const remove = useCallback((key: number) => {
    running.current.get(key)?.abort();
    setFiles((now) => {
      const gone = now.find((one) => one.key === key);
      if (gone?.preview) URL.revokeObjectURL(gone.preview);
      return now.filter((one) => one.key !== key);
    });
    setRefusal(null);
  }, []);
  const clear = useCallback((keys: readonly number[]) => keys.forEach(remove), [remove]);
  // Leaving the page gives up what is on its way.
  useEffect(() => {
    const uploads = running.current;
    return () => uploads.forEach((abort) => abort.abort());
  }, []);
  const refs = files.flatMap((one) => (one.file ? [{ digest: one.file.digest, name: one.file.name }] : []));
  const isBusy = files.some((one) => one.file === null && one.problem === null);
  return { files, refusal, isBusy, hasFailed: files.some((one) => one.problem !== null), refs, add, remove, clear };
}

/** The files of a paste or a drop; empty when it holds text only. */
export function filesIn(data: DataTransfer | null): File[] {
  return data ? Array.from(data.files) : [];
}
