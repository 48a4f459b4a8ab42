/* What curves against time are made of: rows that come later, times in common, scales and axes. */

import {clock, scaled} from "./quantities.js";
import {AXIS, FOOT, LEAST, atLeast, axis, ticks} from "./report/common.js";

const DENSITY = 60;   // width of the axis on the right, px
const STEPS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
  1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000];

// Rows that are newer than those that are known of a source.
export function append(known, columns) {
  const until_s = known.columns.time_s.at(-1), first = columns?.time_s.findIndex((time_s) => time_s > until_s) ?? -1;
  if (first < 0) return;
  const names = new Set([...Object.keys(known.columns), ...Object.keys(columns)]);
  const had = known.columns.time_s.length, more = columns.time_s.length - first;
  for (const name of names) {
    const values = known.columns[name] ??= new Array(had).fill(null);
    for (let row = first; row < first + more; row += 1) values.push(columns[name]?.[row] ?? null);
  }
  known.rows_in_range += more;
}

// Lines with times of their own over one common column of times.
export function together(lines) {
  const tables = lines.map(({name, time, value}) => [time, value.map((each) => scaled(name, each))]);
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

// The nearest row at which a line has a value: several lines seldom share their times.
export function nearest(chart, series, row) {
  const values = chart.data[series];
  for (let away = 0; away < 50; away += 1) {
    if (values[row - away] != null) return row - away;
    if (values[row + away] != null) return row + away;
  }
  return row;
}

export function scales(label, area_m2) {
  const shown = {x: {time: false, range: (_, low, high) => [low, high]}, y: {range: atLeast(LEAST[label] || 0)}};
  if (area_m2) shown.density = {from: "y", range: (_, low, high) => [low / area_m2 / 1e4, high / area_m2 / 1e4]};
  return shown;
}

export function axes(isLast, area_m2) {
  const time = {incrs: STEPS_S, space: 84};
  const empty = {values: (_, values) => values.map(() => "")};
  const right = {side: 1, size: DENSITY, grid: {show: false}};
  return [
    axis(isLast ? "time since the start / h:min" : null, isLast ? {...time, size: FOOT - 18, values: timeTicks} : {...time, size: 8, ...empty}),
    axis(null, {size: AXIS}),
    area_m2 ? axis(null, {...right, scale: "density", values: ticks}) : axis(null, {...right, ...empty, ticks: {show: false}}),
  ];
}

// Seconds between ticks say how a tick is written.
function timeTicks(_, values, __, ___, step_s) {
  const decimals = step_s >= 1 ? 0 : Math.ceil(-Math.log10(step_s) - 1e-9);
  return values.map((value) => value == null ? "" : step_s >= 60 ? clock(value).slice(0, -3) : clock(value, decimals));
}
