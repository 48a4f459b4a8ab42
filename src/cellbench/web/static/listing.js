/* A protocol's text with its lines numbered, some of them marked, each with what is to say of it. */

import {element} from "./report/common.js";

// marks: by line number, {kind, text}; several lines of one step share a kind.
export function listing(text, marks = new Map(), label = "Protocol") {
  const lines = text.replace(/\n$/, "").split("\n").map((line, index) => {
    const mark = marks.get(index + 1);
    const content = [element("code", line || " ")];
    for (const said of mark?.texts || []) content.push(element("p", said));
    return element("li", content, mark ? {class: mark.kind} : {});
  });
  return element("ol", lines, {class: "listing", tabindex: "0", "aria-label": label});
}

// Brings the first marked line into the middle of a listing that scrolls.
export function toMark(node) {
  const mark = node.querySelector("li[class]");
  if (mark) node.scrollTop = mark.offsetTop - node.clientHeight / 2 + mark.offsetHeight / 2;
}
