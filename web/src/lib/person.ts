/**
 * Whom this tab works for. A browser has one cookie for all its tabs: another one may sign out, or sign somebody else in,
 * while this one still shows, and keeps, what the person before saw and typed.
 */

type Leave = (next: string) => void;

let here = "";
let leave: Leave = () => {};
let tabs: BroadcastChannel | undefined;

/** The id of the person; empty while nobody is known. */
export const personHere = (): string => here;

/** Listens to the other tabs. `onOther` leaves what this tab shows: for another person, or for nobody (empty). */
export function watchPerson(onOther: Leave): void {
  leave = onOther;
  if (typeof BroadcastChannel === "undefined") return;
  tabs = new BroadcastChannel("greenroom-person");
  tabs.onmessage = ({ data }: MessageEvent<unknown>) => {
    // A tab that shows nobody's waits for what its own sign-in says.
    if (typeof data === "string" && here !== "") comes(data);
  };
}

/** The server says who is signed in. */
export function comes(person: string): void {
  const isOther = here !== "" && here !== person;
  here = isOther ? "" : person;
  if (isOther) leave(person);
}

/** Somebody signed in in this tab, or, empty, signed out. */
export function announce(person: string): void {
  here = person;
  tabs?.postMessage(person);
}

/** The sign-in has ended by itself: the tab shows nothing of the person any more, and works for whoever comes. */
export function goes(): void {
  here = "";
}
