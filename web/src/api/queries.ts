/** What the page asks the server for, by key, with how often it looks again. */
import type { StatisticsBy } from "./types";
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { api } from "./client";

export const meQuery = queryOptions({ queryKey: ["me"], queryFn: ({ signal }) => api.me(signal), staleTime: 5 * 60_000 });
export const sessionsQuery = queryOptions({
  queryKey: ["sessions"],
  queryFn: ({ signal }) => api.sessions(signal),
  // `sessions-stream.ts` keeps it as it is.
  staleTime: 60_000,
});
export const archivedQuery = queryOptions({ queryKey: ["archived-sessions"], queryFn: ({ signal }) => api.archivedSessions(signal) });
export const searchQuery = (words: string) => queryOptions({ queryKey: ["search", words], staleTime: 0, queryFn: ({ signal }) => api.search(words, signal), enabled: words !== "", placeholderData: keepPreviousData });
export const statisticsQuery = (range: { from: string; to: string; by: StatisticsBy }) =>
  queryOptions({ queryKey: ["statistics", range], queryFn: ({ signal }) => api.statistics(range, signal), placeholderData: keepPreviousData });
export const sessionQuery = (id: string) => queryOptions({ queryKey: ["sessions", id], queryFn: ({ signal }) => api.session(id, signal), staleTime: 60_000 });
export const sessionTreeQuery = (id: string) =>
  queryOptions({
    queryKey: ["sessions", id, "tree"],
    queryFn: ({ signal }) => api.sessionTree(id, signal),
    refetchInterval: (query) => (query.state.data?.sessions.some((session) => session.status === "running") ? 3000 : false),
  });
export const sessionEnvironmentQuery = (id: string) =>
  queryOptions({ queryKey: ["sessions", id, "environment"], queryFn: ({ signal }) => api.sessionEnvironment(id, signal), refetchInterval: 5000 });
export const sessionContextQuery = (id: string, asOf: number | string) =>
  // What the model sees follows from the log: asked again when a turn begins, and with each entry while none runs.
  queryOptions({ queryKey: ["sessions", id, "context", asOf], queryFn: ({ signal }) => api.sessionContext(id, signal), staleTime: Infinity, placeholderData: keepPreviousData });
export const sessionPeopleQuery = (id: string) =>
  // Asked again when the session's stream says that somebody's part in it changed.
  queryOptions({ queryKey: ["sessions", id, "people"], queryFn: ({ signal }) => api.sessionPeople(id, signal), staleTime: 60_000 });
export const sessionBlameQuery = (id: string, path: string) =>
  // Under the diff's key: it is asked again when the diff is.
  queryOptions({ queryKey: ["sessions", id, "diff", "blame", path], queryFn: ({ signal }) => api.sessionBlame(id, path, signal), staleTime: 10_000 });
export const shareLinksQuery = (id: string) => queryOptions({ queryKey: ["sessions", id, "share-links"], queryFn: ({ signal }) => api.shareLinks(id, signal) });
export const sessionTraceQuery = (id: string, isRunning: boolean) =>
  queryOptions({ queryKey: ["sessions", id, "trace"], queryFn: ({ signal }) => api.sessionTrace(id, signal), refetchInterval: isRunning ? 3000 : false });
export const repositoriesQuery = queryOptions({
  queryKey: ["repositories"],
  queryFn: ({ signal }) => api.repositories(signal),
  refetchInterval: (query) => (query.state.data?.some((repository) => repository.build?.state === "building") ? 2000 : 20_000),
});
export const repositoryQuery = (name: string) =>
  queryOptions({
    queryKey: ["repositories", name],
    queryFn: ({ signal }) => api.repository(name, signal),
    refetchInterval: (query) => (query.state.data?.build?.state === "building" ? 2000 : 20_000),
  });
export const imagesQuery = (name: string) =>
  queryOptions({
    queryKey: ["repositories", name, "images"],
    queryFn: ({ signal }) => api.images(name, signal),
    refetchInterval: (query) => (query.state.data?.some((image) => image.state === "building") ? 2000 : 20_000),
  });
export const imageContentsQuery = (id: string) =>
  queryOptions({ queryKey: ["images", id, "contents"], queryFn: ({ signal }) => api.imageContents(id, signal), staleTime: 60_000 });
export const egressQuery = (name: string) => queryOptions({ queryKey: ["repositories", name, "egress"], queryFn: ({ signal }) => api.egress(name, signal) });
export const secretsQuery = (name: string) => queryOptions({ queryKey: ["repositories", name, "secrets"], queryFn: ({ signal }) => api.secrets(name, signal) });
export const modelsQuery = queryOptions({ queryKey: ["models"], queryFn: ({ signal }) => api.models(signal) });
export const retentionQuery = queryOptions({ queryKey: ["retention"], queryFn: ({ signal }) => api.retention(signal) });
export const quotasQuery = queryOptions({ queryKey: ["quotas"], queryFn: ({ signal }) => api.quotas(signal) });
export const quotaUsageQuery = (login: string) =>
  queryOptions({ queryKey: ["quota-usage", login], queryFn: ({ signal }) => api.quotaUsage(login, signal) });
export const peopleQuery = queryOptions({ queryKey: ["people"], queryFn: ({ signal }) => api.people(signal) });
export const machineQuery = queryOptions({ queryKey: ["machine"], queryFn: ({ signal }) => api.machine(signal), staleTime: 5 * 60_000 });
export const machineResourcesQuery = queryOptions({
  queryKey: ["machine", "resources"],
  queryFn: ({ signal }) => api.machineResources(signal),
  refetchInterval: 5000,
});
export const changesQuery = queryOptions({
  queryKey: ["changes"],
  queryFn: ({ signal }) => api.changes(signal),
  refetchInterval: 10_000,
});
export const changeQuery = (id: string) =>
  queryOptions({ queryKey: ["changes", id], queryFn: ({ signal }) => api.change(id, signal), refetchInterval: 10_000 });
export const changeDiffQuery = (id: string, head: string) =>
  queryOptions({ queryKey: ["changes", id, "diff", head], queryFn: ({ signal }) => api.changeDiff(id, signal), staleTime: 60_000 });
export const sessionDiffQuery = (id: string, isRunning: boolean) =>
  queryOptions({
    queryKey: ["sessions", id, "diff"],
    queryFn: ({ signal }) => api.sessionDiff(id, signal),
    refetchInterval: isRunning ? 5000 : false,
  });
export const treeDiffQuery = (id: string, of: { step: number } | { turn: string } | { revert_to: number }) =>
  // Trees of a step stay as they are; what a revert would change is looked at each time.
  queryOptions({ queryKey: ["sessions", id, "diff", "trees", of], queryFn: ({ signal }) => api.treeDiff(id, of, signal), staleTime: "step" in of ? 60_000 : 0 });
