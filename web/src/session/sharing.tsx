/** Who takes part in a session, what it is open for, and the links that let others in. Rules are the server's. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ApiError, newKey } from "../api/client";
import { meQuery, peopleQuery, sessionPeopleQuery, shareLinksQuery } from "../api/queries";
import type { Command, ParticipantView, SessionRole, ShareKind, ShareLinkState, ShareLinkView, TeamAccess } from "../api/types";
import { Ago, Avatar, Badge, Button, type Choice, CopyButton, ErrorBox, IconButton, SelectField } from "../ui/basics";
import { Section } from "./details";
import { useRights } from "./rights";

const ROLES: (Choice & { value: SessionRole })[] = [
  { value: "viewer", label: "Viewer" },
  { value: "contributor", label: "Contributor" },
  { value: "owner", label: "Owner" },
];
const ROLE_WORDS: Record<SessionRole, string> = { viewer: "Viewer", contributor: "Contributor", owner: "Owner" };
const ACCESS: (Choice & { value: TeamAccess })[] = [
  { value: "contribute", label: "Everyone here may take part" },
  { value: "view", label: "Everyone here may look" },
  { value: "none", label: "Private to its participants" },
];
const ACCESS_SAYS: Record<TeamAccess, string> = {
  contribute: "Every member of this installation can look and prompt.",
  view: "Everyone of this installation can look; participants prompt.",
  none: "Only participants, and administrators, can see it.",
};
const KINDS: (Choice & { value: ShareKind })[] = [
  { value: "view", label: "To look" },
  { value: "take_part", label: "To take part" },
];
const KIND_WORDS: Record<ShareKind, string> = { view: "To look", take_part: "To take part" };
const HOUR_S = 3600;
const LIVES: Choice[] = [
  { value: String(HOUR_S), label: "1 hour" },
  { value: String(24 * HOUR_S), label: "1 day" },
  { value: String(7 * 24 * HOUR_S), label: "7 days" },
  { value: String(30 * 24 * HOUR_S), label: "30 days" },
];
const STATE_WORDS: Record<ShareLinkState, string> = { active: "Active", expired: "Expired", revoked: "Revoked", disowned: "Its maker may not share any more" };

/** A command whose refusal is an error, and after which the people are asked for again. */
function useCommand(id: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async (command: Command) => {
      const receipt = await api.submit(id, newKey(), command);
      if (receipt.problem) throw new ApiError(409, receipt.problem);
    },
    onSettled: () => queries.invalidateQueries({ queryKey: sessionPeopleQuery(id).queryKey }),
  });
}

export function Sharing({ id }: { id: string }) {
  const { people, mayShare } = useRights(id);
  if (!people) return null;
  return (
    <>
      <People id={id} />
      {mayShare && <Links id={id} />}
    </>
  );
}

function People({ id }: { id: string }) {
  const { data: me } = useQuery(meQuery);
  const { people, mayManage } = useRights(id);
  const command = useCommand(id);
  if (!people) return null;
  const give = (participant: ParticipantView, role: string) => command.mutate({ type: "set_participant", person: participant.person, role: role as SessionRole });
  return (
    <Section title="People">
      <ErrorBox error={command.error} onDismiss={() => command.reset()} className="mb-2" />
      <ul className="card divide-y divide-line" data-testid="participants">
        {people.participants.map((participant) => {
          const isMe = participant.person === me?.person.id;
          return (
            <li key={participant.person} className="flex flex-wrap items-center gap-x-3 gap-y-1 px-3.5 py-2">
              <Avatar name={participant.name} />
              <span className="min-w-0 flex-1 basis-32">
                <span className="block truncate">
                  {participant.name}
                  {isMe && " (you)"}
                </span>
                {participant.is_by_link && <span className="block text-[13px] text-ink-3">by a link</span>}
              </span>
              {mayManage ? (
                <SelectField isLabelHidden label={`Role of ${participant.name}`} value={participant.role} choices={ROLES} disabled={command.isPending} onChange={(role) => give(participant, role)} className="w-44 max-w-full" />
              ) : (
                <Badge>{ROLE_WORDS[participant.role]}</Badge>
              )}
              {(mayManage || isMe) && (
                <IconButton label={isMe ? "Leave the session" : `Remove ${participant.name}`} icon="cross" disabled={command.isPending} onClick={() => command.mutate({ type: "remove_participant", person: participant.person })} />
              )}
            </li>
          );
        })}
      </ul>
      {mayManage && <AddParticipant id={id} known={people.participants} />}
      <div className="mt-3">
        {mayManage ? (
          <SelectField label="Open for" value={people.team_access} choices={ACCESS} disabled={command.isPending} onChange={(access) => command.mutate({ type: "set_team_access", access: access as TeamAccess })} />
        ) : null}
        <p className="mt-1 text-[13px] text-ink-3">{ACCESS_SAYS[people.team_access]}</p>
      </div>
    </Section>
  );
}

function AddParticipant({ id, known }: { id: string; known: ParticipantView[] }) {
  const { data: everyone } = useQuery(peopleQuery);
  const [person, setPerson] = useState("");
  const [role, setRole] = useState<SessionRole>("contributor");
  const command = useCommand(id);
  const others = (everyone ?? []).filter((one) => !known.some((participant) => participant.person === one.id));
  if (others.length === 0) return null;
  return (
    <form
      aria-label="Add a participant"
      className="mt-3 flex flex-wrap items-end gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        command.mutate({ type: "set_participant", person, role }, { onSuccess: () => setPerson("") });
      }}
    >
      <SelectField label="Person" required value={person} choices={[{ value: "", label: "Choose…" }, ...others.map((one) => ({ value: one.id, label: `${one.name} (${one.login})` }))]} onChange={setPerson} className="min-w-40 flex-1" />
      <SelectField label="Role" value={role} choices={ROLES} onChange={(value) => setRole(value as SessionRole)} className="min-w-40 flex-1" />
      <Button type="submit" isBusy={command.isPending} disabled={person === ""} className="min-h-11">
        Add
      </Button>
      <ErrorBox error={command.error} onDismiss={() => command.reset()} className="w-full" />
    </form>
  );
}

function Links({ id }: { id: string }) {
  const queries = useQueryClient();
  const { data: links, error } = useQuery(shareLinksQuery(id));
  const [kind, setKind] = useState<ShareKind>("view");
  const [life, setLife] = useState(String(7 * 24 * HOUR_S));
  const lookAgain = () => queries.invalidateQueries({ queryKey: shareLinksQuery(id).queryKey });
  const create = useMutation({ mutationFn: () => api.createShareLink(id, { kind, life_s: Number(life) }), onSettled: lookAgain });
  const made = create.data && new URL(create.data.path, location.origin).href;
  return (
    <Section title="Share">
      <p className="mb-3 text-ink-2">A link lets people of this installation in. They sign in to follow it.</p>
      <form
        aria-label="Make a link"
        className="flex flex-wrap items-end gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          create.mutate();
        }}
      >
        <SelectField label="What for" value={kind} choices={KINDS} onChange={(value) => setKind(value as ShareKind)} className="min-w-32 flex-1" />
        <SelectField label="Works for" value={life} choices={LIVES} onChange={setLife} className="min-w-28 flex-1" />
        <Button type="submit" icon="plus" isBusy={create.isPending} className="min-h-11">
          Make link
        </Button>
      </form>
      <ErrorBox error={create.error ?? error} className="mt-3" />
      {made && (
        <div className="card mt-3 p-4" data-testid="share-link">
          <p className="font-medium">Copy it now: it is not shown again.</p>
          <pre className="output my-3 wrap-anywhere whitespace-pre-wrap">{made}</pre>
          <CopyButton text={made} label="Copy link" />
        </div>
      )}
      {links && links.length > 0 && (
        <ul className="card mt-3 divide-y divide-line" data-testid="share-links">
          {links.map((link) => (
            <LinkRow key={link.id} id={id} link={link} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function LinkRow({ id, link }: { id: string; link: ShareLinkView }) {
  const queries = useQueryClient();
  const { data: me } = useQuery(meQuery);
  const { mayManage } = useRights(id);
  const revoke = useMutation({
    mutationFn: () => api.revokeShareLink(id, link.id),
    onSettled: () => queries.invalidateQueries({ queryKey: ["sessions", id] }),
  });
  const mayRevoke = link.state !== "revoked" && (mayManage || link.made_by === me?.person.id);
  return (
    <li className="px-3.5 py-2">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <span className="min-w-0 flex-1 basis-40">
          <span className="block">
            {KIND_WORDS[link.kind]} · {link.state === "active" ? `until ${new Date(link.expires_at_ms).toLocaleString()}` : STATE_WORDS[link.state]}
          </span>
          <span className="block text-[13px] text-ink-3">
            {link.made_by_name}, <Ago atMs={link.made_at_ms} />
            {link.joined > 0 && ` · ${link.joined} here by it`}
          </span>
        </span>
        {mayRevoke && (
          <Button look="danger" isBusy={revoke.isPending} onClick={() => revoke.mutate()}>
            Revoke
          </Button>
        )}
      </div>
      <ErrorBox error={revoke.error} className="mt-2" />
    </li>
  );
}
