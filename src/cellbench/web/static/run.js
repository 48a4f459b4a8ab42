/* One run: what it does now, what was measured, what may be asked of it. */

import {asked, isKnown, perform, titleOf} from "./actions.js";
import {get, isOperator, runPath} from "./api.js";
import {chip, progress, stepText, values} from "./card.js";
import {cycleTable, drawCycles, table} from "./cycles.js";
import {Journal} from "./journal.js";
import {listing, toMark} from "./listing.js";
import {Live} from "./live.js";
import {failed} from "./notices.js";
import {known} from "./page.js";
import {Program} from "./program.js";
import {bounds, clock, powers} from "./quantities.js";
import {clear, element, resize} from "./report/common.js";
import {nyquistPlot} from "./report/nyquist.js";
import {TracePlots} from "./traces.js";

const at = (id) => document.getElementById(id);
const run = at("main").dataset.run;
const SLOW_MS = 15_000;     // between two looks at what takes the server seconds
const PROGRAM_MS = 2_000;
const program = new Program(at("program"));
const journal = new Journal(at("journal"), run);
const traces = new TracePlots(at("traces"), [{run, label: run}]);
let summary = {}, received = 0, protocol = null, spectra = {spectra: []}, cycles = {cycles: []};

// --- Now ---------------------------------------------------------------------------------------

function showNow() {
  const {cell, protocol: name, bench, simulated, state, needs, message} = summary;
  at("cell").replaceChildren(cell, " ", chip(state));
  const report = element("a", "Report", {href: `/runs/${encodeURIComponent(run)}/report`});
  at("about").replaceChildren(`${name}, ${bench}, run ${run}`, ...summary.ended ? [". ", report] : []);
  document.title = `${cell} ${state} · cellbench`;
  at("banner").hidden = !simulated;
  at("banner").textContent = simulated ? "SIMULATED BENCH: no instrument is connected" : "";
  const told = needs ? "" : summary.verdict || message;
  at("now").replaceChildren(
    ...needs && !summary.prompt ? [element("p", powers(needs), {class: "needs"})] : [],
    ...Object.keys(summary.latest).length ? [values(summary, received)] : [],
    ...stepText(summary) ? [element("p", stepText(summary), {class: "step"})] : [], progress(summary),
    ...told ? [element("p", powers(told), {class: "message"})] : []);
}

function showActions() {
  const actions = isOperator ? (summary.actions || []).filter((action) => isKnown(action) && action !== "emergency") : [];
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
    : [element("label", ["Answer", element("input", "", {name: "text", autocomplete: "off"})]),
      element("button", "Answer", {type: "submit", class: "main"})];
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
  if (more.limits) showFacts();
  if (more.program) program.update(more.program);
  if (before.step_path !== summary.step_path || before.state !== summary.state) {
    markProtocol().catch(failed);
    traces.stepChanged();
    slowly();
  }
}

// --- What takes longer ---------------------------------------------------------------------------

// Spectra and cycles: looked at again after steps, seldom.
let waiting = null, looked = 0;
function slowly() {
  waiting ??= setTimeout(async () => {
    try {
      await Promise.all([spectraAgain(), cyclesAgain()]);
    } catch (error) {
      failed(error);
    }
    looked = Date.now();
    waiting = null;
  }, Math.max(0, looked + SLOW_MS - Date.now()));
}

async function spectraAgain() {
  const found = await get(runPath(run, "/spectra"));
  if (found.spectra.length === spectra.spectra.length) return;
  spectra = found;
  drawSpectra();
}

async function cyclesAgain() {
  const found = await get(runPath(run, "/cycles"));
  if (found.cycles.length === cycles.cycles.length) return;
  cycles = found;
  drawCycleSection();
}

async function showFindings() {
  if (!summary.ended) return;
  const {analyses} = await get(runPath(run, "/analyses"));
  at("findings").hidden = !analyses.length;
  at("findings").lastElementChild.replaceChildren(...analyses.map(({title, verdict, lines}) =>
    element("article", [element("h3", [title, ...verdict ? [" ", chip(verdict)] : []]), element("dl", lines.flatMap(finding), {class: "lines"})])));
}

// A line of an analysis: a label and a text, or values side by side.
function finding(line) {
  const [first, ...rest] = line.split(/ {2,}/);
  if (!rest.length || /^\d/.test(first)) return [element("dd", [first, ...rest].join(" · "), {class: "wide"})];
  return [element("dt", first), element("dd", rest.join(" · "))];
}

// The steps may take the server a while; the page does not wait for them.
async function programLater() {
  while (!summary.program) {
    await new Promise((resolve) => setTimeout(resolve, PROGRAM_MS));
    take(await get(runPath(run)));
  }
}

function inPlace(id, draw) {
  at(id).hidden = false;
  const holder = at(id).lastElementChild;
  clear(holder);
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
  if (!now.text || protocol && now.line === protocol.line && !summary.ended) return;
  protocol = now;
  const marks = new Map();
  for (let line = summary.ended ? null : now.line; line && line <= (now.last_line ?? now.line); line += 1) marks.set(line, {kind: "now"});
  const shown = listing(now.text, marks, "The protocol as it is run");
  at("protocol").hidden = false;
  at("protocol").lastElementChild.replaceChildren(shown);
  toMark(shown);
}

// --- Begin -------------------------------------------------------------------------------------

const elsewhere = known.active;
known.active = () => summary.ended ? elsewhere() : [{run}];

async function begin() {
  const curves = traces.load();
  take(await get(runPath(run)));
  traces.know({area_m2: summary.area_m2, started: summary.started, label: summary.cell});
  await curves;
  if (!summary.ended) watch();
  await Promise.all([journal.load(), programLater(), showFindings()]);
}

function watch() {
  new Live(runPath(run, "/events"), {
    run: take,
    samples: ({sources}) => traces.append(run, sources),
    journal: ({entries}) => journal.add(entries),
  }, traces.cursor);
  setInterval(showNow, 1000);
}

addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { traces.again(); drawSpectra(); drawCycleSection(); });
begin().catch(failed);
