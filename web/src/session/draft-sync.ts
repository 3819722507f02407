/**
 * One place's draft as one client holds it. Pure: what was typed here, what the server keeps, and what to do when they
 * differ. The newest revision wins; text of this client that loses is never thrown away but offered.
 */

/** A draft as the server keeps it. */
export interface Kept {
  text: string;
  revision: number;
}

export interface DraftState {
  /** What is in the box. */
  text: string;
  /** The newest that the server is known to keep; what is typed is typed on it. */
  kept: Kept;
  /** On its way to the server. */
  sent: string | null;
  /** What was typed here and lost to another client's. */
  offered: string | null;
  /** The server said what it keeps since this connection began. Before, nothing is sent. */
  isKnown: boolean;
}

export const NO_DRAFT: DraftState = { text: "", kept: { text: "", revision: 0 }, sent: null, offered: null, isKnown: false };

export function typed(state: DraftState, text: string): DraftState {
  return { ...state, text };
}

/** What has to be sent now, if anything. */
export function due(state: DraftState): { state: DraftState; write: Kept } | null {
  if (!state.isKnown || state.sent !== null || state.text === state.kept.text) return null;
  return { state: { ...state, sent: state.text }, write: { text: state.text, revision: state.kept.revision } };
}

/** The connection is gone, and with it what was on its way: the server says what it keeps when there is a new one. */
export function cutOff(state: DraftState): DraftState {
  return { ...state, sent: null, isKnown: false };
}

/** A write did not arrive or could not be carried out; it may be sent again. */
export function failed(state: DraftState): DraftState {
  return { ...state, sent: null };
}

/** The server says what it keeps: because it was written to, by whichever client, or because this one asked. */
export function told(state: DraftState, kept: Kept, isRefused = false): DraftState {
  const isFirst = !state.isKnown;
  if (!isFirst && kept.revision <= state.kept.revision) {
    // Known already. An answer ends what was on its way.
    const isAnswer = isRefused || kept.revision === state.kept.revision;
    return isAnswer ? { ...state, sent: null } : state;
  }
  const { text, sent } = state;
  const next: DraftState = { ...state, kept, isKnown: true, sent: isRefused || isFirst ? null : sent };
  // This client's own words came back; what it typed since goes on from them.
  if (sent !== null && kept.text === sent) return { ...next, sent: null };
  const isUntouched = text === state.kept.text && kept.revision >= state.kept.revision;
  if (isUntouched || text === kept.text) return { ...next, text: kept.text };
  // The draft was sent or emptied elsewhere: what is typed here meanwhile is the next one. Or nothing happened meanwhile.
  if (kept.text === "" || kept.revision === state.kept.revision) return next;
  return { ...next, text: kept.text, offered: text.trim() === "" ? state.offered : text };
}

/** Puts what was offered back into the box; what was there is offered instead. */
export function takeOffered(state: DraftState): DraftState {
  if (state.offered === null) return state;
  return { ...state, text: state.offered, offered: state.text.trim() === "" ? null : state.text };
}
