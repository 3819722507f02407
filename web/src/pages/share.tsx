/** Following a share link: the secret came behind the address's `#`, and is kept by the tab until it has been used. */
import { useMutation } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { api, ApiError } from "../api/client";
import { ErrorBox, Loading, useTitle } from "../ui/basics";
import { forgetShareSecret, keptShareSecret } from "../lib/share-secret";

export function SharePage() {
  const navigate = useNavigate();
  useTitle("Share link");
  const { mutate, error } = useMutation({
    mutationFn: () => api.useShareLink(keptShareSecret()),
    onSettled: (_, error) => {
      // A sign-in comes between, or the server is away for a moment.
      const isLeft = error instanceof ApiError && (error.isTransient || error.status === 401 || error.status === 429);
      if (!isLeft) forgetShareSecret();
    },
    onSuccess: (session) => navigate({ to: "/sessions/$id", params: { id: session.id }, replace: true }),
  });
  useEffect(() => mutate(), [mutate]);
  return (
    <div className="mx-auto max-w-xl space-y-4 px-4 py-12">
      {error ? <ErrorBox error={error} /> : <Loading what="the session" />}
      {error && (
        <Link to="/" className="text-accent underline">
          Go to the sessions
        </Link>
      )}
    </div>
  );
}
