/* Runs as a table; where asked for, with a box each to choose some for comparison. */

import {element} from "./report/common.js";
import {chip} from "./card.js";
import {moment, span} from "./quantities.js";

const HEADINGS = ["run", "cell", "protocol", "state", "started", "took", "verdict"];

export function runTable(runs, chosen = null) {
  const head = element("tr", [...chosen ? [element("th", element("span", "compare", {class: "unseen"}), {scope: "col"})] : [],
    ...HEADINGS.map((heading) => element("th", heading, {scope: "col"}))]);
  const table = element("table", [element("thead", head), element("tbody", runs.map((one) => row(one, chosen)))]);
  return element("div", table, {class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs"});
}

function row(summary, chosen) {
  const path = `/runs/${encodeURIComponent(summary.run)}`;
  const took = summary.ended ? span((new Date(summary.ended) - new Date(summary.started)) / 1000) : "";
  const cells = [element("a", summary.run, {href: path}), summary.cell, summary.protocol, chip(summary.state),
    moment(summary.started), took];
  const verdict = element("td", summary.verdict || "", {class: "prose"});
  return element("tr", [...chosen ? [element("td", box(summary, chosen))] : [],
    ...cells.map((content) => element("td", content)), verdict]);
}

function box({run}, chosen) {
  const input = element("input", "", {type: "checkbox", "aria-label": `Compare ${run}`});
  input.checked = chosen.has(run);
  input.onchange = () => chosen.change(run, input.checked);
  return input;
}
