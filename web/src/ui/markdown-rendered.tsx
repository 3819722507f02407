/**
 * Streamdown with our own elements: plain code blocks, and no picture from elsewhere, because an address inside a model's
 * text could carry data out of the session.
 */
import type { ComponentProps } from "react";
import { type Components, Streamdown } from "streamdown";

type Props<Tag extends keyof React.JSX.IntrinsicElements> = ComponentProps<Tag> & { node?: unknown };

const plain = <Tag extends "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "p" | "ul" | "ol" | "li" | "blockquote" | "hr" | "strong" | "th" | "td" | "tr" | "thead" | "tbody" | "table" | "pre" | "code">(Tag: Tag) =>
  function Plain({ node: _node, className: _className, ...rest }: Props<Tag>) {
    const Element = Tag as "div";
    return <Element {...(rest as ComponentProps<"div">)} />;
  };

const components = {
  ...Object.fromEntries((["h1", "h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "blockquote", "hr", "strong", "th", "td", "tr", "thead", "tbody", "table", "pre", "code"] as const).map((tag) => [tag, plain(tag)])),
  a: ({ node: _node, className: _className, href, children }: Props<"a">) => (
    <a href={href} target="_blank" rel="noreferrer noopener">
      {children}
    </a>
  ),
  img: ({ src, alt }: Props<"img">) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noreferrer noopener">
      {alt || "picture"}
    </a>
  ),
} as Components;

export default function Rendered({ text, isStreaming }: { text: string; isStreaming: boolean }) {
  return (
    <Streamdown className="md md-block" mode={isStreaming ? "streaming" : "static"} controls={false} components={components} linkSafety={{ enabled: false }}>
      {text}
    </Streamdown>
  );
}
