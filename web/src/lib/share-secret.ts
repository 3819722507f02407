/** A share link's secret, from the address to its use: out of the history and of every request's path, over a sign-in too. */
const KEY = "greenroom-share";

export function keepShareSecret(secret: string): void {
  sessionStorage.setItem(KEY, secret);
}

/** It was used, or is no use; or another person may sit here. */
export function forgetShareSecret(): void {
  sessionStorage.removeItem(KEY);
}

/** Empty where the tab was given none: the server answers that as any other link that does not work. */
export const keptShareSecret = (): string => sessionStorage.getItem(KEY) ?? "";
