/* Several runs over one time axis, each in a colour of its own. */

import "./page.js";
import {get, runPath} from "./api.js";
import {chip} from "./card.js";
import {drawCycles} from "./cycles.js";
import {failed} from "./notices.js";
import {clear, element, resize} from "./report/common.js";
import {TracePlots} from "./traces.js";

const MOST = 8;
const at = (id) => document.getElementById(id);
const asked = (new URLSearchParams(location.search).get("runs") || "").split(",").filter(Boolean).slice(0, MOST);

function entry({summary, tone}) {
  return element("li", [element("i", "", {class: "line", style: `color:var(--${tone})`}),
    element("a", summary.run, {href: `/runs/${encodeURIComponent(summary.run)}`}), ` ${summary.cell}, ${summary.protocol} `, chip(summary.state),
    element("span", ` ${summary.verdict || ""}`, {class: "soft"})]);
}

async function load() {
  const runs = await Promise.all(asked.map(async (run, index) => {
    const summary = await get(runPath(run));
    return {run, summary, label: `${summary.cell} ${run}`, tone: `run-${index + 1}`, area_m2: summary.area_m2};
  }));
  at("runs").replaceChildren(runs.length ? element("ul", runs.map(entry), {class: "compared"})
    : element("p", ["Tick two runs or more under ", element("a", "Runs", {href: "/runs"}), "."]));
  if (!runs.length) return;
  const traces = new TracePlots(at("traces"), runs);
  const curves = traces.load();
  addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { traces.again(); drawAll(cycled); });
  const cycled = await Promise.all(runs.map(async (one) => ({...one, ...await get(runPath(one.run, "/cycles"))})));
  await curves;
  drawAll(cycled);
}

function drawAll(found) {
  const cycled = found.filter(({cycles}) => cycles.length > 1), holder = at("cycles").lastElementChild;
  at("cycles").hidden = !cycled.length;
  clear(holder);
  if (cycled.length) drawCycles(holder, cycled);
}

load().catch(failed);
