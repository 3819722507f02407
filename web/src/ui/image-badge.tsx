/** The state of an environment image. */
import type { ImageView } from "../api/types";
import { Badge } from "./basics";

export function ImageBadge({ image }: { image: ImageView | null | undefined }) {
  if (!image) return <Badge>No image</Badge>;
  switch (image.state) {
    case "building":
      return (
        <Badge look="bg-warn-soft text-warn" icon="clock">
          Building
        </Badge>
      );
    case "failed":
      return (
        <Badge look="bg-bad-soft text-bad" icon="warn">
          Build failed
        </Badge>
      );
    case "ready":
      return (
        <Badge look="bg-accent-soft text-accent" icon="check">
          Ready
        </Badge>
      );
  }
}
