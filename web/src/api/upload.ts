/** Uploads with progress, which `fetch` does not tell of. */
import { ApiError, onUnauthorized } from "./client";
import type { Attachment, ErrorView, Problem, SessionView } from "./types";

/** As long as the server takes. */
const DEADLINE_MS = 11 * 60_000;

/** To a session, or for the next one. Rejects with an `ApiError`; with the signal's reason when it was taken back. */
export function upload(session: string | null, file: File, onProgress: (share: number) => void, signal: AbortSignal): Promise<Attachment> {
  const place = session === null ? "/attachments" : `/sessions/${encodeURIComponent(session)}/attachments`;
  return send(`${place}?name=${encodeURIComponent(file.name)}`, {}, file, onProgress, signal);
}

/** Makes a session of an exported one, in the repository of that name or, with `""`, of its own. The same key and file make one session. */
export function importSession(file: File, repository: string, key: string, onProgress: (share: number) => void, signal: AbortSignal): Promise<SessionView> {
  const query = repository === "" ? "" : `?repository=${encodeURIComponent(repository)}`;
  return send(`/sessions/import${query}`, { "Idempotency-Key": key }, file, onProgress, signal);
}

function send<T>(place: string, headers: Record<string, string>, file: File, onProgress: (share: number) => void, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1${place}`);
    request.setRequestHeader("X-Greenroom", "1");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.timeout = DEADLINE_MS;
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status === 200 && answer) return resolve(answer as T);
      if (request.status === 401) onUnauthorized();
      reject(new ApiError(request.status, problemIn(answer, request.status)));
    };
    const unreachable = (message: string) => () => reject(new ApiError(0, { code: "server_unreachable", message, hint: "Check that this device is connected, then try again." }));
    request.onerror = unreachable("The file did not reach the server.");
    request.ontimeout = unreachable("The upload took too long.");
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(file);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problemIn(answer: unknown, status: number): Problem {
  const error = (answer as { error?: Partial<ErrorView> } | undefined)?.error;
  if (error?.code && error.message) return { code: error.code, message: error.message, hint: error.hint };
  return { code: "server_unexpected", message: `The server answered with status ${status}.`, hint: "Try again; the server's log says more." };
}

/** Where a session is to be had as one file. */
export function exportUrl(session: string): string {
  return `/api/v1/sessions/${encodeURIComponent(session)}/export`;
}

/** Where the bytes of a session's file are. */
export function blobUrl(session: string, file: Attachment): string {
  return `/api/v1/sessions/${encodeURIComponent(session)}/blobs/${file.digest}?name=${encodeURIComponent(file.name)}`;
}
