/* Voltage, current, stack pressure and temperature against one time axis, of one run or several:
   zoomed together down to single samples, which the server is asked for anew. */

import {get, runPath} from "./api.js";
import {clock, density, fixed, moment, QUANTITIES, scaled, span} from "./quantities.js";
import {AXIS, FOOT, LEAST, RIGHT, atLeast, axis, boxed, brokenLine, charts, clear, colour, element, place, ticks} from "./report/common.js";
import {nameSteps, shadeSteps} from "./report/steps.js";

const POINTS = 1500;        // asked for of each source
const MOST_LIVE = 4000;     // so many rows are shown before the server is asked to thin them again
const REDRAW_MS = 200;
const RELOAD_MS = 3000;
const LEAST_SPAN_S = 0.02;
const WHOLE = Infinity;
const COLUMNS = Object.keys(QUANTITIES);
const STEPS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];
const VIEWS = [["whole test", WHOLE], ["last hour", 3600], ["last 10 min", 600], ["last min", 60]];
let made = 0;

// Seconds between ticks say how a tick is written.
function timeTicks(_, values, __, ___, step_s) {
  const decimals = step_s >= 1 ? 0 : Math.ceil(-Math.log10(step_s) - 1e-9);
  return values.map((value) => value == null ? "" : step_s >= 60 ? clock(value).slice(0, -3) : clock(value, decimals));
}

export class TracePlots {
  // runs: [{run, label, tone, area_m2, started}]; one run has a colour for each quantity.
  constructor(holder, runs) {
    this.runs = runs.map((one) => ({...one, sources: [], spans: []}));
    this.key = `time-${made++}`;
    this.follow = WHOLE;
    this.range = [0, 1];
    this.past = [];
    this.panels = [];
    this.said = element("output", "", {class: "hint"});
    this.plots = element("div", "", {class: "panels"});
    holder.replaceChildren(this.tools(), this.plots);
    holder.addEventListener("keydown", (event) => this.pressed(event));
  }

  // What is known of a single run later than its curves.
  know(more) {
    Object.assign(this.runs[0], more);
    if (this.shape) this.again();
  }

  // --- What is looked at ---------------------------------------------------------------------

  // Shows an interval in seconds since the start; what was shown before can be gone back to.
  async show(from, to, {remember = true} = {}) {
    const middle = (from + to) / 2, half = Math.max(to - from, LEAST_SPAN_S) / 2;
    if (remember) this.past.push([this.follow, this.range]);
    this.follow = null;
    this.setRange([middle - half, middle + half]);
    await this.load();
  }

  // Shows the newest so many seconds from now on, or the whole test.
  async stay(seconds, {remember = true} = {}) {
    if (remember) this.past.push([this.follow, this.range]);
    this.follow = seconds;
    this.setRange(this.newest());
    await this.load();
  }

  back() {
    const [follow, range] = this.past.pop() || [WHOLE, this.range];
    return follow ? this.stay(follow, {remember: false}) : this.show(...range, {remember: false});
  }

  move(scale, shift) {
    const [from, to] = this.range, half = (to - from) / 2 * scale;
    const middle = (from + to) / 2 + shift * (to - from);
    return this.show(middle - half, middle + half);
  }

  end_s() {
    return Math.max(1, ...this.runs.map((one) => one.end_s || 0));
  }

  newest() {
    const end_s = this.end_s();
    return [this.follow === WHOLE ? 0 : Math.max(0, end_s - this.follow), end_s];
  }

  setRange(range) {
    this.range = range;
    for (const {chart} of this.panels) chart.setScale("x", {min: range[0], max: range[1]});
    for (const button of this.views) button.setAttribute("aria-pressed", String(button.seconds === this.follow));
    this.backwards.disabled = !this.past.length;
  }

  // --- Data ----------------------------------------------------------------------------------

  async load() {
    this.request?.abort();
    const request = this.request = new AbortController();
    const [from_s, to_s] = this.follow === WHOLE ? [null, null]
      : this.follow ? [this.range[0], null] : this.range;
    const query = {columns: COLUMNS.join(","), from_s, to_s, points: POINTS};
    let answers;
    try {
      answers = await Promise.all(this.runs.map(({run}) =>
        get(runPath(run, "/traces"), query, {signal: request.signal})));
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error;
    }
    this.runs.forEach((one, index) => this.take(one, answers[index]));
    this.cursor = answers[0].cursor;
    if (this.follow) this.range = this.newest();
    this.draw();
    this.setRange(this.range);
  }

  take(one, answer) {
    one.sources = answer.sources.filter(({columns}) => columns.time_s.length);
    one.spans = answer.spans || [];
    if (this.follow) one.end_s = answer.to_s;
    else one.end_s = Math.max(one.end_s || 0, answer.to_s);
  }

  // Rows that came just now, of one run.
  append(run, sources) {
    const one = this.runs.find((each) => each.run === run);
    for (const {source, columns} of sources) {
      if (!columns.time_s.length) continue;
      one.end_s = Math.max(one.end_s || 0, columns.time_s.at(-1));
      if (!this.follow) continue;
      const known = one.sources.find((each) => each.source === source);
      if (known) append(known, columns);
      else one.sources.push({source, columns: {...columns}, thinned: false, rows_in_range: columns.time_s.length});
    }
    if (this.follow) this.soon();
  }

  // What shades the curves comes with them.
  stepChanged() {
    if (this.follow && this.shape) this.reload ??= setTimeout(() => { this.reload = null; this.load(); }, RELOAD_MS);
  }

  soon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.range = this.newest();
      if (this.runs.some(({sources}) => sources.some(({columns}) => columns.time_s.length > MOST_LIVE))) this.load();
      else this.draw();
    }, REDRAW_MS);
  }

  // --- Drawing -------------------------------------------------------------------------------

  lines(name) {
    return this.runs.flatMap((one) => one.sources.filter(({columns}) => columns[name]?.some((value) => value != null))
      .map((source) => ({one, source: source.source, name, time: source.columns.time_s, value: source.columns[name]})));
  }

  draw() {
    const drawn = COLUMNS.map((name) => [name, this.lines(name)]).filter(([, lines]) => lines.length);
    const shape = drawn.map(([name, lines]) => `${name}:${lines.map(({one, source}) => `${one.run}/${source}`)}`).join(" ");
    if (shape !== this.shape) this.build(drawn, shape);
    drawn.forEach(([, lines], index) => {
      const {chart} = this.panels[index];
      this.panels[index].lines = lines;
      chart.batch(() => {
        chart.setData(together(lines), false);
        chart.setScale("x", {min: this.range[0], max: this.range[1]});
      });
    });
    this.tell();
  }

  build(drawn, shape) {
    this.shape = shape;
    clear(this.plots);
    this.panels = [];
    drawn.forEach(([name, lines], index) => this.panel(name, lines, index, index === drawn.length - 1));
  }

  // Draws all anew, as after a change from light to dark.
  again() {
    this.shape = null;
    this.draw();
  }

  panel(name, lines, index, isLast) {
    const {label, unit} = QUANTITIES[name];
    const area_m2 = name === "current_A" && this.runs.length === 1 ? this.runs[0].area_m2 : null;
    const height = (index === 0 ? 240 : 140) + (isLast ? FOOT : 8);
    const spot = place(this.plots, label, area_m2 ? `${unit}, right: mA/cm²` : unit, height);
    const panel = {name, lines, spot};
    const options = {
      width: spot.width(), height, padding: [6, 0, 0, 0], legend: {show: false},
      scales: scales(label, area_m2), axes: axes(isLast, area_m2),
      series: [{}, ...lines.map(({one}, at) => ({
        stroke: () => colour(one.tone || `trace-${1 + COLUMNS.indexOf(name)}`), width: 1.3, paths: brokenLine,
        dash: at && lines[at - 1].one === one ? [6, 4] : [], points: {size: 5}}))],
      cursor: {sync: {key: this.key}, y: false, points: {size: 6}, drag: {x: true, y: false, dist: 5, setScale: false},
        dataIdx: nearest, bind: {dblclick: () => () => this.stay(WHOLE), mousedown: (chart, _, handle) => (event) =>
          event.shiftKey ? this.pan(chart, event) : handle(event)}},
      hooks: {
        drawClear: [(chart) => shadeSteps(chart, this.spans())],
        draw: [...index ? [] : [(chart) => nameSteps(chart, this.spans())], boxed],
        setCursor: [(chart) => { spot.output.textContent = this.readout(chart, panel); }],
        setSelect: [(chart) => this.selected(chart)],
      },
    };
    panel.chart = new uPlot(options, together(lines), spot.canvas);
    this.panels.push(panel);
    charts.push({chart: panel.chart, spot});
  }

  spans() {
    return this.runs.length === 1 ? this.runs[0].spans : [];
  }

  selected(chart) {
    const {left, width} = chart.select;
    if (width < 5) return;
    const [from, to] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    // All panels are selected in together: each is cleared, one tells.
    for (const one of this.panels) one.chart.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
    this.show(from, to);
  }

  pan(chart, event) {
    const before = this.range, perPixel = (before[1] - before[0]) / chart.over.clientWidth;
    const shift = (now) => before.map((value) => value - (now.clientX - event.clientX) * perPixel);
    const moved = (now) => this.setRange(shift(now));
    const up = (now) => {
      removeEventListener("mousemove", moved);
      this.range = before;
      this.show(...shift(now));
    };
    addEventListener("mousemove", moved);
    addEventListener("mouseup", up, {once: true});
  }

  readout(chart, {name, lines}) {
    if (chart.cursor.left < 0) return "";
    const told = lines.map(({one, source}, at) => {
      const row = chart.cursor.idxs[at + 1], value = row == null ? null : chart.data[at + 1][row];
      if (value == null) return "";
      const about = this.runs.length > 1 ? `${one.label}: ` : lines.length > 1 ? `${source}: ` : "";
      const more = name === "current_A" ? density(value / 1e3, one.area_m2) : "";
      return `${about}${fixed(value, QUANTITIES[name].decimals + 1)} ${QUANTITIES[name].unit}${more ? `, ${more}` : ""}`;
    }).filter(Boolean);
    const at_s = chart.posToVal(chart.cursor.left, "x");
    const {started} = this.runs[0];
    const when = started && this.runs.length === 1 ? ` (${moment(new Date(started).getTime() + 1e3 * at_s)})` : "";
    return told.length ? `${told.join("   ")} at ${clock(at_s, this.range[1] - this.range[0] < 60 ? 2 : 0)}${when}` : "";
  }

  tell() {
    const sources = this.runs.flatMap((one) => one.sources);
    const rows = sources.reduce((sum, one) => sum + (one.rows_in_range ?? 0), 0);
    const isThinned = sources.some(({thinned}) => thinned);
    const shown = `${span(this.range[1] - this.range[0])}, ${rows.toLocaleString("en-GB").replaceAll(",", " ")} samples`;
    this.said.textContent = isThinned ? `${shown}, drawn by their extremes` : `${shown}, each drawn`;
  }

  // --- Tools ---------------------------------------------------------------------------------

  tools() {
    const button = (text, label, act) => {
      const made = element("button", text, {type: "button", title: label, "aria-label": label});
      made.onclick = act;
      return made;
    };
    this.backwards = button("back", "back to what was shown before (Backspace)", () => this.back());
    this.views = VIEWS.map(([text, seconds]) => Object.assign(button(text, text, () => this.stay(seconds)), {seconds}));
    return element("div", [
      button("←", "earlier (left arrow)", () => this.move(1, -0.3)), button("→", "later (right arrow)", () => this.move(1, 0.3)),
      button("+", "closer", () => this.move(0.5, 0)), button("−", "farther", () => this.move(2, 0)),
      this.backwards, ...this.views, this.said,
    ], {class: "tools", title: "drag to zoom, Shift and drag to move, double-click for the whole test"});
  }

  pressed(event) {
    const act = {ArrowLeft: () => this.move(1, -0.3), ArrowRight: () => this.move(1, 0.3), "+": () => this.move(0.5, 0),
      "-": () => this.move(2, 0), Backspace: () => this.back(), 0: () => this.stay(WHOLE)}[event.key];
    if (!act || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  }
}

function append(known, columns) {
  const had = known.columns.time_s.length;
  for (const [name, values] of Object.entries(columns)) {
    known.columns[name] ??= new Array(had).fill(null);
    for (const value of values) known.columns[name].push(value);
  }
  for (const values of Object.values(known.columns)) while (values.length < known.columns.time_s.length) values.push(null);
  known.rows_in_range += columns.time_s.length;
}

// Lines with times of their own over one common column of times.
function together(lines) {
  const tables = lines.map(({name, time, value}) => [time, value.map((each) => scaled(name, each))]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

// The nearest row at which a line has a value: several lines seldom share their times.
function nearest(chart, series, row) {
  const values = chart.data[series];
  for (let away = 0; away < 50; away += 1) {
    if (values[row - away] != null) return row - away;
    if (values[row + away] != null) return row + away;
  }
  return row;
}

function scales(label, area_m2) {
  const shown = {x: {time: false, range: (_, low, high) => [low, high]}, y: {range: atLeast(LEAST[label] || 0)}};
  if (area_m2) shown.density = {from: "y", range: (_, low, high) => [low / area_m2 / 1e4, high / area_m2 / 1e4]};
  return shown;
}

function axes(isLast, area_m2) {
  const time = {incrs: STEPS_S, space: 84};
  const empty = {values: (_, values) => values.map(() => "")};
  const right = {side: 1, size: RIGHT, grid: {show: false}};
  return [
    axis(isLast ? "time since the start / h:min" : null, isLast ? {...time, size: FOOT - 18, values: timeTicks} : {...time, size: 8, ...empty}),
    axis(null, {size: AXIS}),
    area_m2 ? axis(null, {...right, scale: "density", values: ticks}) : axis(null, {...right, ...empty, ticks: {show: false}}),
  ];
}
