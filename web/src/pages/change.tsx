/** One change on a page of its own. */
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { changeQuery } from "../api/queries";
import { ErrorBox, Loading, useTitle } from "../ui/basics";
import ChangeDetail from "../ui/change-detail";

export function ChangePage() {
  const { id } = getRouteApi("/app/changes/$id").useParams();
  const { data, error } = useQuery(changeQuery(id));
  useTitle(data ? `#${data.number} ${data.title}` : "Change");
  return (
    <div className="mx-auto max-w-6xl px-4 py-5 lg:px-8 lg:py-8">
      <Link to="/changes" className="mb-3 inline-flex min-h-10 items-center text-sm text-ink-2 hover:underline">
        All changes
      </Link>
      <ErrorBox error={error} className="mb-4" />
      {!data && !error && <Loading what="the change" />}
      {data && <ChangeDetail change={data} />}
    </div>
  );
}
