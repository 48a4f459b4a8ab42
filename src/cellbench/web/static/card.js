/* One run at a glance: what the overview's cards and the head of a run's page show of it. */

import {element} from "./report/common.js";
import {QUANTITIES, clock, density, moment, number, powers, span} from "./quantities.js";

const SVG = "http://www.w3.org/2000/svg";
const OLD_S = 5;   // an age below this goes without saying

export function chip(state) {
  return element("span", state, {class: `chip s-${state}`});
}

// The cell, and before it the place where it sits on a bench of many.
function whereIs(summary) {
  return summary.place ? `${summary.place}  ${summary.cell}` : summary.cell;
}

// The newest value of each quantity, with its age; what is stale looks it.
export function values(summary, received) {
  const list = element("dl", [], {class: "values"});
  for (const [name, {label, unit}] of Object.entries(QUANTITIES)) {
    const latest = summary.latest[label];
    if (!latest) continue;
    const age_s = (latest.age_s ?? 0) + (summary.ended ? 0 : (Date.now() - received) / 1000);
    const lines = [element("span", [element("b", number(name, latest.value)), ` ${unit}`], {class: "value"})];
    const under = [name === "current_A" ? density(latest.value, summary.area_m2) : "",
      age_s >= OLD_S && !summary.ended ? `${span(age_s)} ago` : ""].filter(Boolean).join(", ");
    const told = latest.stale ? `stale, ${span(age_s)} ago` : under;
    if (told) lines.push(element("small", told));
    list.append(element("div", [element("dt", label), element("dd", lines)], {class: latest.stale ? "stale" : ""}));
  }
  return list;
}

export function progress(summary) {
  const share = Math.max(0, Math.min(1, summary.progress ?? 0)), isKnown = summary.progress != null && !summary.ended;
  const fill = element("div", "", {style: `width:${100 * share}%`});
  const bar = element("div", fill, {class: "progress", role: "progressbar", "aria-label": "Progress",
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.floor(100 * share))});
  const left_s = summary.ends_at ? (new Date(summary.ends_at) - Date.now()) / 1000 : null;
  const end = left_s == null ? "end unknown" : `ends by ${moment(summary.ends_at)}${left_s > 0 ? `, in ${span(left_s)}` : ""}`;
  const told = summary.ended ? `ended ${moment(summary.ended)}${summary.time_s ? ` after ${span(summary.time_s)}` : ""}` : `${isKnown ? `${Math.floor(100 * share)} %, ` : ""}${end}`;
  return element("div", [...isKnown ? [bar] : [], element("p", told, {class: "soft"})], {class: "course"});
}

export function sparkline(numbers) {
  const known = (numbers || []).filter((value) => value != null);
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "spark");
  drawing.setAttribute("viewBox", "0 0 100 30");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", "Voltage over the run");
  if (known.length > 1) {
    const low = Math.min(...known), high = Math.max(...known);
    // Noise is not news: full height is a fiftieth of the value at least.
    const height = Math.max(high - low, 0.02 * Math.max(Math.abs(low), Math.abs(high)), 1e-9);
    const points = numbers.map((value, index) => value == null ? null
      : `${(100 * index / (numbers.length - 1)).toFixed(1)},${(28 - 26 * (value - (low + high - height) / 2) / height).toFixed(1)}`);
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("points", points.filter(Boolean).join(" "));
    drawing.append(line);
  }
  return drawing;
}

export function stepText({step, step_elapsed_s: elapsed_s, step_duration_s: duration_s}) {
  if (!step || elapsed_s == null) return step || "";
  return `${powers(step)}, ${clock(elapsed_s)}${duration_s ? ` of ${clock(duration_s)}` : ""}`;
}

// A card of the overview. It is made once and filled anew, so that keyboard focus stays.
export class Card {
  constructor(summary) {
    this.link = element("a", whereIs(summary), {href: `/runs/${encodeURIComponent(summary.run)}`});
    this.parts = element("div", "", {class: "parts"});
    this.node = element("article", [element("h3", this.link), this.parts], {class: "card"});
    this.update(summary);
  }

  update(summary) {
    this.summary = summary;
    this.received = Date.now();
    this.draw();
  }

  draw() {
    const {summary} = this;
    this.node.className = `card h-${summary.health || "ok"}${summary.needs ? " needy" : ""}`;
    this.link.textContent = whereIs(summary);
    const chips = [chip(summary.state)];
    if (summary.simulated) chips.push(element("span", "simulated", {class: "chip simulated"}));
    this.parts.replaceChildren(
      element("p", [element("span", summary.protocol, {class: "what"}), ...chips], {class: "chips"}),
      ...summary.needs ? [element("p", powers(summary.needs), {class: "needs"})] : [],
      values(summary, this.received), sparkline(summary.spark),
      ...summary.message && !summary.needs ? [element("p", powers(summary.message), {class: "message"})] : [],
      element("p", stepText(summary), {class: "step"}), progress(summary),
      element("p", [`${summary.bench}, `, element("span", `run ${summary.run}`, {class: "whole"})], {class: "soft small"}),
    );
  }
}
