/** How far the person has read each session, and so whether there is something new in it. Fed by `sessions-stream.ts`. */
import { queryOptions, useQuery } from "@tanstack/react-query";
import { api } from "./client";
import { meQuery } from "./queries";
import type { ReadPosition, SessionView } from "./types";

export type Reads = Readonly<Record<string, number>>;

export const readsQuery = queryOptions({
  queryKey: ["reads"],
  queryFn: async ({ signal }) => readsOf(await api.reads(signal)),
  staleTime: 60_000,
});

export function readsOf(positions: readonly ReadPosition[]): Reads {
  return Object.fromEntries(positions.map(({ session, seq }) => [session, seq]));
}

export function readOn(reads: Reads | undefined, { session, seq }: ReadPosition): Reads {
  return { ...reads, [session]: Math.max(reads?.[session] ?? 0, seq) };
}

/** There is news that the person has not seen, in a session that they began or have opened before. */
export function hasNews(session: SessionView, reads: Reads, me: string | undefined): boolean {
  const seen = reads[session.id] ?? (session.created_by === me ? 0 : Number.POSITIVE_INFINITY);
  return session.news_seq > seen;
}

export function useHasNews(session: SessionView): boolean {
  const { data: me } = useQuery(meQuery);
  const { data: reads } = useQuery(readsQuery);
  return reads !== undefined && me !== undefined && hasNews(session, reads, me.person.id);
}

