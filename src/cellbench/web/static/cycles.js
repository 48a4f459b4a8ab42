/* The cycles of one run, or of several: capacities and efficiency as a plot and as a table. */

import {fixed, span} from "./quantities.js";
import {element} from "./report/common.js";
import {curvePlot} from "./report/curves.js";

const MOST_ROWS = 500;

// Unit of capacity, and what coulombs are multiplied with.
const measure = ({active_mass_kg: mass_kg}) => mass_kg ? ["mAh/g", 1 / 3600 / mass_kg] : ["mAh", 1 / 3.6];

function curve(label, cycles, value, more) {
  const known = cycles.map((cycle) => [cycle.cycle, value(cycle)]).filter(([, each]) => each != null && Number.isFinite(each));
  return {label, x: known.map(([x]) => x), y: known.map(([, y]) => y), mark: "points", ...more};
}

// found: [{label, tone, cycles, active_mass_kg}]
export function drawCycles(holder, found) {
  const alike = new Set(found.map((one) => measure(one)[0])).size === 1;
  const usual = (one) => alike ? measure(one) : ["mAh", 1 / 3.6];
  const curves = found.flatMap((one) => {
    const about = found.length > 1 ? `${one.label}, ` : "", tone = one.tone ? {tone: one.tone} : {};
    const scale = usual(one)[1];
    return [
      curve(`${about}charge`, one.cycles, (cycle) => cycle.charge_C == null ? null : scale * cycle.charge_C, {mark: "hollow", ...tone}),
      curve(`${about}discharge`, one.cycles, (cycle) => cycle.discharge_C == null ? null : scale * cycle.discharge_C, tone),
      ...found.length > 1 ? [] : [curve("efficiency", one.cycles, (cycle) => cycle.efficiency == null ? null : 100 * cycle.efficiency, {right: true})],
    ].filter(({x}) => x.length);
  });
  const unit = usual(found[0])[0];
  curvePlot(holder, {
    title: "Capacity of each cycle", x: {label: "cycle", unit: "", whole: true}, y: {label: `capacity / ${unit}`, unit, zero: true},
    right: {label: "efficiency / %", unit: "%"}, curves,
  });
}

export function cycleTable(found) {
  const [unit, scale] = measure(found);
  const headings = ["cycle", `charge / ${unit}`, `discharge / ${unit}`, "efficiency / %", "mean charge / V", "mean discharge / V", "took"];
  const rows = found.cycles.slice(-MOST_ROWS).reverse().map((cycle) => [
    String(cycle.cycle), fixed(times(cycle.charge_C, scale), 3), fixed(times(cycle.discharge_C, scale), 3),
    fixed(times(cycle.efficiency, 100), 2), fixed(cycle.mean_charge_voltage_V, 4), fixed(cycle.mean_discharge_voltage_V, 4),
    cycle.end_s == null ? "–" : span(cycle.end_s - cycle.start_s)]);
  return table("Cycles", headings, rows);
}

const times = (value, scale) => value == null ? null : value * scale;

export function table(title, headings, rows) {
  const head = element("tr", headings.map((text) => element("th", text, {scope: "col"})));
  const body = rows.map((row) => element("tr", row.map((cell) => element("td", cell, cell.length > 24 ? {class: "prose"} : {}))));
  return element("div", element("table", [element("thead", head), element("tbody", body)]),
    {class: "scroll tall", tabindex: "0", role: "region", "aria-label": `Table: ${title}`});
}
