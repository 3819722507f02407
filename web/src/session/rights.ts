/** What the person at this page may do in a session, as the server says it; it is asked again when somebody's part changes. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { ApiError } from "../api/client";
import { meQuery, sessionPeopleQuery } from "../api/queries";
import type { Right, SessionPeople } from "../api/types";

export interface Rights {
  mayPrompt: boolean;
  mayShare: boolean;
  mayManage: boolean;
  /** `undefined`: not known yet. */
  people: SessionPeople | undefined;
}

export function useRights(id: string): Rights {
  const { data: me } = useQuery(meQuery);
  const { data, error } = useQuery({ ...sessionPeopleQuery(id), retry: false });
  const isOut = error instanceof ApiError && error.status === 404;
  const people = isOut ? undefined : data;
  const may = (right: Right) => people?.my_rights.includes(right) === true;
  // Most who open a session take part in it: the prompt box does not wait for the answer.
  const mayPrompt = people ? may("prompt") : !isOut && me?.person.role !== "viewer";
  return { mayPrompt, mayShare: may("share"), mayManage: may("manage"), people };
}

/** Asks again when the session's stream says so. */
export function useFreshRights(id: string, peopleSeq: number, isCaughtUp: boolean): void {
  const queries = useQueryClient();
  useEffect(() => {
    void queries.invalidateQueries({ queryKey: sessionPeopleQuery(id).queryKey });
    void queries.invalidateQueries({ queryKey: ["sessions", id, "share-links"] });
  }, [queries, id, peopleSeq, isCaughtUp]);
}

/** Why there is no prompt box. */
export function lookingOnly(rights: Rights, isViewerEverywhere: boolean): string {
  if (isViewerEverywhere) return "As a viewer you can watch; ask an administrator to become a member.";
  const owner = rights.people?.participants.find((participant) => participant.role === "owner");
  return `You can look at this session, not take part in it. Ask ${owner?.name ?? "its owner"} for a part in it.`;
}
