/** Following a share link: the secret came behind the address's `#`, and is kept by the tab until it has been used. */
import { useMutation } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { api } from "../api/client";
import { ErrorBox, Loading, useTitle } from "../ui/basics";
import { keptShareSecret } from "../lib/share-secret";

export function SharePage() {
  const navigate = useNavigate();
  useTitle("Share link");
  const { mutate, error } = useMutation({
    mutationFn: () => api.useShareLink(keptShareSecret()),
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
