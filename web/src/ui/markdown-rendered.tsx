/**
 * Markdown as elements; HTML inside it is not interpreted. No picture is fetched from elsewhere, because an address inside
 * a model's text could carry data out of the session: pictures are shown as links.
 */
import { type ComponentProps, useDeferredValue } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import remend from "remend";

const plugins = [remarkGfm];

const components: Components = {
  a: ({ href, children }) => <OutsideLink href={href}>{children}</OutsideLink>,
  table: ({ children }) => <table tabIndex={0}>{children}</table>,
  img: ({ src, alt }) => <OutsideLink href={typeof src === "string" ? src : undefined}>{alt || "picture"}</OutsideLink>,
};

function OutsideLink({ href, children }: Pick<ComponentProps<"a">, "href" | "children">) {
  return (
    <a href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  );
}

export default function Rendered({ text, isStreaming }: { text: string; isStreaming: boolean }) {
  // Parsing gives way to typing and scrolling while text streams in.
  const shown = useDeferredValue(text);
  return (
    <div className="md">
      <ReactMarkdown remarkPlugins={plugins} components={components}>
        {isStreaming ? remend(shown) : text}
      </ReactMarkdown>
    </div>
  );
}
