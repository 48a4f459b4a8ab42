/* One run: what it does now, what was measured, what may be asked of it. */

import "./page.js";
import {asked, isKnown, perform, titleOf} from "./actions.js";
import {get, isOperator, runPath} from "./api.js";
import {chip, progress, sparkline, stepText, values} from "./card.js";
import {cycleTable, drawCycles, table} from "./cycles.js";
import {Journal} from "./journal.js";
import {listing, toMark} from "./listing.js";
import {Live} from "./live.js";
import {failed} from "./notices.js";
import {Program} from "./program.js";
import {bounds, clock, powers} from "./quantities.js";
import {charts, element, resize} from "./report/common.js";
import {nyquistPlot} from "./report/nyquist.js";
import {TracePlots} from "./traces.js";

const at = (id) => document.getElementById(id);
const run = at("main").dataset.run;
const program = new Program(at("program"));
const journal = new Journal(at("journal"), run);
let summary = await get(runPath(run)), received = Date.now(), traces = null, protocol = null;
let spectra = {spectra: []}, cycles = {cycles: []};

// --- Now ---------------------------------------------------------------------------------------

function showNow() {
  const {cell, protocol: name, bench, simulated, state, needs, message} = summary;
  at("cell").replaceChildren(cell, " ", chip(state));
  at("about").replaceChildren(name, `, ${bench}, run ${run}`, ...summary.ended ? [". ", link("Report", `/runs/${encodeURIComponent(run)}/report`)] : []);
  document.title = `${cell} ${state} · cellbench`;
  at("banner").hidden = !simulated;
  at("banner").textContent = simulated ? "SIMULATED BENCH: no instrument is connected" : "";
  const told = needs && !summary.prompt ? needs : summary.verdict || message;
  at("now").replaceChildren(
    ...needs && told ? [element("p", powers(told), {class: "needs"})] : [],
    ...Object.keys(summary.latest).length ? [values(summary, received)] : [],
    ...stepText(summary) ? [element("p", stepText(summary), {class: "step"})] : [], progress(summary),
    ...!needs && told ? [element("p", powers(told), {class: "message"})] : []);
}

const link = (text, href) => element("a", text, {href});

function showActions() {
  const actions = isOperator ? (summary.actions || []).filter((action) => isKnown(action) && action !== "quiet") : [];
  if (at("actions").dataset.shown === String(actions)) return;
  at("actions").dataset.shown = String(actions);
  at("actions").replaceChildren(...actions.map((action) => {
    const button = element("button", titleOf(action), {type: "button", ...action === "abort" ? {class: "danger"} : {}});
    button.onclick = () => perform(run, action, action === "skip" ? {step: summary.step_path} : {});
    return button;
  }));
}

function showPrompt() {
  const {prompt} = summary, text = prompt ? JSON.stringify(prompt) : "";
  if (at("prompt").dataset.shown === text) return;
  at("prompt").dataset.shown = text;
  at("prompt").hidden = !prompt;
  if (!prompt) return;
  const parts = [element("p", "This run asks", {class: "kicker"}), element("p", prompt.text, {id: "prompt-text", class: "question"})];
  if (isOperator) parts.push(answerForm(prompt));
  else parts.push(element("p", "An operator can answer.", {class: "soft"}));
  at("prompt").replaceChildren(...parts);
}

function answerForm({id, choices}) {
  const buttons = choices?.length ? choices.map((choice) => element("button", choice, {type: "submit", value: choice, class: "main"}))
    : [element("label", ["Answer", element("input", "", {name: "text", autocomplete: "off"})]), element("button", "Answer", {type: "submit", class: "main"})];
  const form = element("form", buttons, {class: "buttons"});
  form.onsubmit = async (event) => {
    event.preventDefault();
    const text = choices?.length ? event.submitter.value : form.elements.text.value;
    await asked(run, "answer", {text, prompt: id});
  };
  return form;
}

function showFacts() {
  const facts = [...summary.limits.map(({quantity, min, max}) => [quantity, bounds(quantity, min, max)]),
    ...Object.entries(summary.identities).map(([name, told]) => [name, identity(told)]),
    ...summary.deviations.map(({time_s, text}) => ["deviation", `${clock(time_s)}  ${powers(text)}`])];
  at("facts").replaceChildren(element("dl", facts.flatMap(([name, text]) => [element("dt", name), element("dd", text)]), {class: "facts"}));
}


const identity = (told) => Object.values(told).filter((each) => typeof each === "string" && each).join(", ");

function take(more) {
  const before = summary;
  summary = {...summary, ...more};
  received = Date.now();
  showNow();
  showActions();
  showPrompt();
  if (summary.program) program.update(summary.program);
  if (before.step !== summary.step && protocol) markProtocol();
  if (before.state !== summary.state || before.step?.split(" ")[0] !== summary.step?.split(" ")[0]) refresh();
}

// --- Later -------------------------------------------------------------------------------------

// What only changes from step to step: details, spectra, cycles; asked for rarely.
let refreshing = null;
function refresh() {
  refreshing ??= setTimeout(async () => {
    refreshing = null;
    try {
      const more = await get(runPath(run));
      summary = {...summary, ...more};
      showActions();
      showPrompt();
      program.update(summary.program);
      showFacts();
      await slowly();
    } catch (error) {
      failed(error);
    }
  }, 1500);
}

async function slowly() {
  const [newSpectra, newCycles] = await Promise.all([get(runPath(run, "/spectra")), get(runPath(run, "/cycles"))]);
  if (newSpectra.spectra.length !== spectra.spectra.length) {
    spectra = newSpectra;
    drawSpectra();
  }
  if (newCycles.cycles.length !== cycles.cycles.length) {
    cycles = newCycles;
    drawCycleSection();
  }
}

function inPlace(id, draw) {
  at(id).hidden = false;
  const holder = at(id).lastElementChild;
  // Only the charts of this section are drawn anew.
  for (const one of charts.filter(({chart}) => holder.contains(chart.root))) {
    charts.splice(charts.indexOf(one), 1);
    one.chart.destroy();
  }
  holder.replaceChildren();
  draw(holder);
}

function drawSpectra() {
  if (!spectra.spectra.length) return;
  inPlace("spectra", (holder) => {
    const plot = element("div", "", {class: "plots"});
    holder.append(plot);
    nyquistPlot(plot, spectra);
    if (spectra.table) holder.append(table(spectra.table.title, spectra.table.headings, spectra.table.rows));
  });
}

function drawCycleSection() {
  if (!cycles.cycles.length) return;
  inPlace("cycles", (holder) => {
    const plot = element("div", "", {class: "plots"});
    holder.append(plot);
    if (cycles.cycles.length > 1) drawCycles(plot, [{label: summary.cell, ...cycles}]);
    holder.append(cycleTable(cycles));
  });
}

async function markProtocol() {
  const now = await get(runPath(run, "/protocol"));
  if (!now.text || protocol && now.line === protocol.line) return;
  protocol = now;
  const marks = new Map();
  for (let line = now.line; line && line <= (now.last_line ?? now.line); line += 1) marks.set(line, {kind: "now"});
  const shown = listing(now.text, marks, "The protocol as it is run");
  at("protocol").hidden = false;
  at("protocol").lastElementChild.replaceChildren(shown);
  toMark(shown);
}

// --- Begin -------------------------------------------------------------------------------------

const {area_m2, started, cell} = summary;
traces = new TracePlots(at("traces"), [{run, label: cell, area_m2, started}]);
take({});
showFacts();
await traces.load().catch(failed);
const live = summary.ended ? null : new Live(runPath(run, "/events"), {
  run: take,
  samples: ({sources}) => traces.append(run, sources),
  journal: ({entries}) => journal.add(entries),
  again: refresh,
}, traces.cursor);
setInterval(() => { if (live) showNow(); }, 1000);
addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { traces.again(); drawSpectra(); drawCycleSection(); });
await Promise.all([journal.load(), slowly(), markProtocol()].map((one) => one.catch(failed)));
