/* Checks and plans what was pasted: mistakes stand at their lines, with the cure. */

import "./page.js";
import {get, post} from "./api.js";
import {listing, toMark} from "./listing.js";
import {failed} from "./notices.js";
import {clock, span} from "./quantities.js";
import {element} from "./report/common.js";

const form = document.getElementById("check");
const answer = document.getElementById("answer");
const asked = new URLSearchParams(location.search).get("protocol");

// "j=0.4 mA/cm2; rest=5 min" as names and values.
const settings = (text) => Object.fromEntries(text.split(";").map((part) => part.trim()).filter(Boolean)
  .map((part) => part.split(/=(.*)/s).slice(0, 2).map((side) => (side || "").trim())));

function mistakes(text, errors) {
  const marks = new Map();
  for (const {line, text: said} of errors) {
    if (!line) continue;
    const before = marks.get(line)?.texts || [];
    marks.set(line, {kind: "wrong", texts: [...before, said]});
  }
  const elsewhere = errors.filter(({line}) => !line).map(({text: said}) => element("p", said, {class: "refused"}));
  const shown = listing(text, marks, "The protocol with its mistakes");
  shown.addEventListener("click", (event) => toLine([...shown.children].indexOf(event.target.closest("li"))));
  answer.replaceChildren(element("h2", errors.length === 1 ? "One mistake" : `${errors.length} mistakes`), ...elsewhere, shown);
  toMark(shown);
}

// Puts the caret where the mistake is.
function toLine(index) {
  if (index < 0) return;
  const field = form.elements.text, before = field.value.split("\n").slice(0, index).join("\n").length;
  field.focus();
  field.setSelectionRange(before + (index ? 1 : 0), before + (index ? 1 : 0));
}

function planned(plan) {
  const took = plan.duration_max_s == null ? "end unknown" : `at most ${span(plan.duration_max_s)}`;
  const head = ["start by", "step", "duration at most", "path"].map((text) => element("th", text, {scope: "col"}));
  const rows = (plan.rows || []).map((row) => element("tr", [
    element("td", row.start_s == null ? "–" : clock(row.start_s)), element("td", row.text || row.what || "", {class: "prose"}),
    element("td", row.duration_s == null ? "–" : span(row.duration_s)), element("td", element("code", row.path))]));
  const table = element("table", [element("thead", element("tr", head)), element("tbody", rows)]);
  const warned = (plan.warnings || []).map((text) => element("p", text, {class: "message"}));
  answer.replaceChildren(element("h2", `No mistake found: ${took}`), ...warned,
    element("div", table, {class: "scroll", tabindex: "0", role: "region", "aria-label": "Plan"}));
}

form.onsubmit = async (event) => {
  event.preventDefault();
  const {text, cell, set} = Object.fromEntries(new FormData(form));
  try {
    const found = await post("/api/check", {text, cell: cell || null, set: settings(set)});
    if (found.ok) planned(found.plan);
    else mistakes(text, found.errors);
  } catch (error) {
    failed(error);
  }
};

try {
  const {cells} = await get("/api/cells");
  document.getElementById("cells").append(...cells.map((cell) => element("option", "", {value: cell.name ?? cell})));
  if (asked) form.elements.text.value = (await get(`/api/protocols/${encodeURIComponent(asked)}`)).text;
} catch (error) {
  failed(error);
}
