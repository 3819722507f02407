/**
 * The only way from the page to the server: same-origin credentials, the `X-Greenroom` header, errors as one type, and
 * the way to sign-in when the session of the browser has ended.
 */
import type {
  AddModel,
  AddSecret,
  Blame,
  ChangeView,
  Command,
  ContextView,
  CreateSession,
  CreateShareLink,
  Draft,
  DraftAnswer,
  EgressAddition,
  EgressView,
  EntryPage,
  ErrorView,
  FileDiffView,
  ForkSession,
  HookCreated,
  ImageContents,
  ImageView,
  ListedImage,
  Machine,
  MachineResources,
  ModelTested,
  ModelView,
  Person,
  PersonAdded,
  Problem,
  Quotas,
  QuotasView,
  QuotaUsage,
  RetentionView,
  ReadPosition,
  Receipt,
  RepositoryView,
  Role,
  SecretView,
  SearchHit,
  SessionEnvironment,
  SessionTree,
  SessionPeople,
  SessionView,
  ShareLinkCreated,
  ShareLinkView,
  SignedIn,
  StatisticsBy,
  StatisticsView,
  TokenCreated,
  TurnTrace,
  WarmView,
  WriteDraft,
} from "./types";

export class ApiError extends Error {
  readonly status: number;
  readonly problem: Problem;
  readonly requestId: string | undefined;

  constructor(status: number, problem: Problem, requestId?: string) {
    super(problem.message);
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
    this.requestId = requestId;
  }

  /** Whether the same request may succeed by itself later. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 503 || this.status === 504;
  }
}

interface Options {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** A 401 is an answer to show, not a reason to leave the page. */
  keepsUnauthorized?: boolean;
}

const DEADLINE_MS = 60_000;

let onSignedOut: () => void = () => {};
/** Told once by the router: where to go on a 401. */
export function setSignedOutHandler(handler: () => void): void {
  onSignedOut = handler;
}

/** The browser's session has ended. */
export const onUnauthorized = (): void => onSignedOut();

async function request<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  if (response.ok) {
    return (response.status === 204 ? undefined : await readJson(response)) as T;
  }
  const error = await readError(response);
  if (response.status === 401 && !options.keepsUnauthorized) onSignedOut();
  throw error;
}

async function send(path: string, { method = "GET", body, headers, signal }: Options): Promise<Response> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  try {
    return await fetch(`/api/v1${path}`, {
      method,
      credentials: "same-origin",
      headers: {
        "X-Greenroom": "1",
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
    });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError(0, {
      code: deadline.aborted ? "deadline" : "server_unreachable",
      message: deadline.aborted ? "The server did not answer in time." : "The server cannot be reached.",
      hint: "Check that Greenroom runs and that this device is connected, then try again.",
    });
  }
}

async function readJson(response: Response): Promise<unknown> {
  try {
    return await response.json();
  } catch {
    throw new ApiError(response.status, { code: "server_unexpected", message: "The server's answer could not be read." });
  }
}

async function readError(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => undefined)) as { error?: Partial<ErrorView> } | undefined;
  const error = body?.error;
  if (error?.code && error.message) {
    const { request_id, ...problem } = error;
    return new ApiError(response.status, problem as Problem, request_id);
  }
  return new ApiError(response.status, {
    code: "server_unexpected",
    message: `The server answered with status ${response.status}.`,
    hint: "Try again; the server's log says more.",
  });
}

const get = <T>(path: string, signal?: AbortSignal) => request<T>(path, { signal });
const post = <T>(path: string, body?: unknown, options: Options = {}) =>
  request<T>(path, { ...options, method: "POST", body });
const remove = (path: string) => request<void>(path, { method: "DELETE" });
const part = encodeURIComponent;
const forRepository = (name: string | undefined) => (name === undefined ? "" : `?repository=${part(name)}`);

export const api = {
  me: (signal?: AbortSignal) => request<SignedIn>("/me", { signal }),
  signIn: (login: string, password: string) =>
    post<SignedIn>("/sign-in", { login, password }, { keepsUnauthorized: true }),
  useSignInLink: (body: { token: string; login?: string; name?: string; email?: string; password: string }) =>
    post<SignedIn>("/sign-in/link", body, { keepsUnauthorized: true }),
  signOut: () => post<void>("/sign-out"),
  machine: (signal?: AbortSignal) => get<Machine>("/machine", signal),
  machineResources: (signal?: AbortSignal) => get<MachineResources>("/machine/resources", signal),

  people: (signal?: AbortSignal) => get<Person[]>("/people", signal),
  addPerson: (body: { login: string; name: string; email: string; role: Role }) => post<PersonAdded>("/people", body),
  retention: (signal?: AbortSignal) => get<RetentionView>("/retention", signal),
  quotas: (signal?: AbortSignal) => get<QuotasView>("/quotas", signal),
  quotaUsage: (login: string, signal?: AbortSignal) => get<QuotaUsage>(`/people/${encodeURIComponent(login)}/quotas`, signal),
  /** In place of what was set, for one person or for everyone. */
  setQuotas: (login: string | null, quotas: Quotas) =>
    request<QuotasView>(login === null ? "/quotas" : `/people/${encodeURIComponent(login)}/quotas`, { method: "PUT", body: quotas }),
  createToken: (name: string, expires_at_ms: number | null) => post<TokenCreated>("/tokens", { name, expires_at_ms }),

  repositories: (signal?: AbortSignal) => get<RepositoryView[]>("/repositories", signal),
  repository: (name: string, signal?: AbortSignal) => get<RepositoryView>(`/repositories/${part(name)}`, signal),
  addRepository: (body: { name: string; source: string; required_approvals?: number }) =>
    post<RepositoryView>("/repositories", body),
  createHook: (name: string) => post<HookCreated>(`/repositories/${part(name)}/hook`),
  removeHook: (name: string) => remove(`/repositories/${part(name)}/hook`),
  removeRepository: (name: string) => remove(`/repositories/${part(name)}`),
  egress: (name: string, signal?: AbortSignal) => get<EgressView>(`/repositories/${part(name)}/egress`, signal),
  setEgress: (name: string, additions: EgressAddition[]) => request<EgressView>(`/repositories/${part(name)}/egress`, { method: "PUT", body: { additions } }),
  secrets: (name: string, signal?: AbortSignal) => get<SecretView[]>(`/repositories/${part(name)}/secrets`, signal),
  addSecret: (name: string, body: AddSecret) => post<SecretView>(`/repositories/${part(name)}/secrets`, body),
  removeSecret: (name: string, secret: string) => remove(`/repositories/${part(name)}/secrets/${part(secret)}`),
  warm: (name: string, signal?: AbortSignal) => post<WarmView>(`/repositories/${part(name)}/warm`, {}, { signal }),
  images: (name: string, signal?: AbortSignal) => get<ListedImage[]>(`/repositories/${part(name)}/images`, signal),
  buildImage: (name: string) => post<ImageView>(`/repositories/${part(name)}/images`),
  imageContents: (id: string, signal?: AbortSignal) => get<ImageContents>(`/images/${part(id)}/contents`, signal),

  models: (signal?: AbortSignal) => get<ModelView[]>("/models", signal),
  addModel: (body: AddModel) => post<ModelView>("/models", body),
  removeModel: (name: string) => remove(`/models/${part(name)}`),
  testModel: (name: string) => post<ModelTested>(`/models/${part(name)}/test`),

  sessions: (signal?: AbortSignal) => get<SessionView[]>("/sessions", signal),
  archivedSessions: (signal?: AbortSignal) => get<SessionView[]>("/sessions?archived=true", signal),
  search: (query: string, signal?: AbortSignal) => get<SearchHit[]>(`/search?query=${part(query)}`, signal),
  statistics: (range: { from: string; to: string; by: StatisticsBy }, signal?: AbortSignal) => get<StatisticsView>(`/statistics?${new URLSearchParams(range)}`, signal),
  session: (id: string, signal?: AbortSignal) => get<SessionView>(`/sessions/${part(id)}`, signal),
  createSession: (body: CreateSession, key: string) =>
    post<SessionView>("/sessions", body, { headers: { "Idempotency-Key": key } }),
  forkSession: (id: string, body: ForkSession, key: string) =>
    post<SessionView>(`/sessions/${part(id)}/fork`, body, { headers: { "Idempotency-Key": key } }),
  sessionTrace: (id: string, signal?: AbortSignal) => get<TurnTrace[]>(`/sessions/${part(id)}/trace`, signal),
  sessionContext: (id: string, signal?: AbortSignal) => get<ContextView>(`/sessions/${part(id)}/context`, signal),
  sessionTree: (id: string, signal?: AbortSignal) => get<SessionTree>(`/sessions/${part(id)}/tree`, signal),
  sessionEnvironment: (id: string, signal?: AbortSignal) => get<SessionEnvironment>(`/sessions/${part(id)}/environment`, signal),
  deleteSession: (id: string) => remove(`/sessions/${part(id)}`),
  submit: (id: string, key: string, command: Command) =>
    post<Receipt>(`/sessions/${part(id)}/commands`, { key, command }),
  sessionBlame: (id: string, path: string, signal?: AbortSignal) => get<Blame>(`/sessions/${part(id)}/blame?path=${part(path)}`, signal),
  sessionPeople: (id: string, signal?: AbortSignal) => get<SessionPeople>(`/sessions/${part(id)}/participants`, signal),
  shareLinks: (id: string, signal?: AbortSignal) => get<ShareLinkView[]>(`/sessions/${part(id)}/share-links`, signal),
  createShareLink: (id: string, body: CreateShareLink) => post<ShareLinkCreated>(`/sessions/${part(id)}/share-links`, body),
  revokeShareLink: (id: string, link: string) => remove(`/sessions/${part(id)}/share-links/${part(link)}`),
  useShareLink: (secret: string) => post<SessionView>("/share-links/use", { secret }),
  /** The last entries before this one, oldest first, without streamed text. */
  entriesBefore: (id: string, before: number, limit: number) =>
    get<EntryPage>(`/sessions/${part(id)}/entries?before=${before}&limit=${limit}`),
  treeDiff: (id: string, of: { step: number } | { turn: string } | { revert_to: number }, signal?: AbortSignal) =>
    get<FileDiffView[]>(`/sessions/${part(id)}/diff?${new URLSearchParams(Object.entries(of).map(([name, value]) => [name, String(value)]))}`, signal),
  sessionDiff: (id: string, signal?: AbortSignal) => get<FileDiffView[]>(`/sessions/${part(id)}/diff`, signal),

  reads: (signal?: AbortSignal) => get<ReadPosition[]>("/reads", signal),
  newDraft: (repository: string | undefined, signal?: AbortSignal) => get<Draft>(`/draft${forRepository(repository)}`, signal),
  writeNewDraft: (repository: string | undefined, body: WriteDraft) =>
    request<DraftAnswer>(`/draft${forRepository(repository)}`, { method: "PUT", body }),

  changes: (signal?: AbortSignal) => get<ChangeView[]>("/changes", signal),
  change: (id: string, signal?: AbortSignal) => get<ChangeView>(`/changes/${part(id)}`, signal),
  changeDiff: (id: string, signal?: AbortSignal) => get<FileDiffView[]>(`/changes/${part(id)}/diff`, signal),
  approve: (id: string, head: string) => post<ChangeView>(`/changes/${part(id)}/approve`, { head }),
  merge: (id: string) => post<ChangeView>(`/changes/${part(id)}/merge`),
};

/** What to show for anything that was thrown. */
export function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  return { code: "internal", message: error instanceof Error ? error.message : "Something went wrong on this page." };
}

/** An idempotency key; `randomUUID` is missing on plain-http origins other than localhost. */
export function newKey(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
