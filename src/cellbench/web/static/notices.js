/* What was done, or why it was not, in a corner of the page. */

import {element} from "./report/common.js";

const DONE_MS = 8_000;

export function done(text) {
  const notice = tell(text, "done");
  setTimeout(() => notice.remove(), DONE_MS);
}

// Stays until it is read.
export function failed(error) {
  const notice = tell(error.message, "failed");
  const close = element("button", "Close", {type: "button", class: "quiet"});
  close.onclick = () => notice.remove();
  notice.append(" ", close);
}

function tell(text, kind) {
  const notice = element("p", text, {class: `notice ${kind}`});
  document.getElementById("notices").append(notice);
  return notice;
}
