/** React's view of a session store. */
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { sessionStore } from "./store";

export function useSession(id: string) {
  const store = useMemo(() => sessionStore(id), [id]);
  useEffect(() => store.retain(), [store]);
  const snapshot = useSyncExternalStore(store.subscribe, store.read);
  return { store, ...snapshot };
}
