/* Voltage, current, stack pressure and temperature against one time axis, zoomed together. */

import {AXIS, FOOT, LEAST, RIGHT, atLeast, axis, boxed, brief, brokenLine, charts, colour, element, place, ticks} from "./common.js";
import {data} from "./data.js";
import {nameSteps, shadeSteps} from "./steps.js";

function timeAxes(panel, isLast) {
  const axes = [
    axis(isLast ? `time / ${data.time.unit}` : null, isLast
      ? {size: FOOT - 18} : {size: 8, values: (_, values) => values.map(() => "")}),
    axis(null, {size: AXIS}),
  ];
  const right = {side: 1, size: RIGHT, grid: {show: false}};
  axes.push(panel.name === "current"
    ? axis(null, {...right, scale: "density", values: ticks})
    : axis(null, {...right, values: (_, values) => values.map(() => ""), ticks: {show: false}}));
  return axes;
}

function timeOptions(panel, index, panels, spot, zoom) {
  const isLast = index === panels.length - 1;
  const scales = {x: {time: false, range: (_, low, high) => [low, high]}, y: {range: atLeast(LEAST[panel.name] || 0)}};
  if (panel.name === "current") {
    scales.density = {from: "y", range: (_, low, high) => [low / data.time.area_cm2, high / data.time.area_cm2]};
  }
  return {
    width: spot.width(), height: (index === 0 ? 250 : 150) + (isLast ? FOOT : 8),
    padding: [6, 0, 0, 0], legend: {show: false}, scales, axes: timeAxes(panel, isLast),
    series: [{}, {stroke: colour(`trace-${index + 1}`), width: 1.3, points: {show: false}, paths: brokenLine}],
    cursor: {sync: {key: "time"}, y: false, points: {size: 6}, drag: {x: true, y: false, dist: 5},
      bind: {dblclick: () => () => zoom(0, data.time.end)}},
    hooks: {
      drawClear: [(chart) => shadeSteps(chart, data.time.spans)],
      draw: index === 0 ? [(chart) => nameSteps(chart, data.time.spans), boxed] : [boxed],
      setCursor: [(chart) => { spot.output.textContent = timeReadout(chart, panel); }],
      setScale: [(chart, key) => { if (key === "x") zoom(chart.scales.x.min, chart.scales.x.max); }],
    },
  };
}

function timeReadout(chart, panel) {
  const at = chart.cursor.idx;
  if (at == null || chart.cursor.left < 0 || chart.data[1][at] == null) return "";
  const value = chart.data[1][at];
  const density = panel.name === "current" ? `, ${brief(value / data.time.area_cm2)} mA/cm²` : "";
  return `${brief(value)} ${panel.unit}${density} at ${brief(chart.data[0][at])} ${data.time.unit}`;
}

export function timePlot() {
  const holder = document.getElementById("time-plot");
  holder.replaceChildren();
  const panels = data.time.panels, group = [];
  let busy = false;
  const zoom = (from, to) => {
    if (busy) return;
    busy = true;
    for (const chart of group) chart.setScale("x", {min: from, max: to});
    busy = false;
  };
  holder.append(timeTools(zoom, group));
  panels.forEach((panel, index) => {
    const unit = panel.name === "current" ? "mA, right: mA/cm²" : panel.unit;
    const height = (index === 0 ? 250 : 150) + (index === panels.length - 1 ? FOOT : 8);
    const spot = place(holder, panel.name, unit, height);
    busy = true;
    const chart = new uPlot(timeOptions(panel, index, panels, spot, zoom), [panel.x, panel.y], spot.canvas);
    group.push(chart);
    charts.push({chart, spot});
    busy = false;
  });
  zoom(0, data.time.end);
  for (const link of document.querySelectorAll("a[data-from]")) {
    const seconds = data.time.unit === "h" ? 3600 : 60;
    const [from, to] = [link.dataset.from / seconds, link.dataset.to / seconds];
    link.onclick = () => zoom(from - 0.2 * (to - from), to + 0.2 * (to - from));
  }
}

function timeTools(zoom, group) {
  const tools = element("div", "", {class: "tools"});
  const move = (scale, shift) => () => {
    const {min, max} = group[0].scales.x, half = (max - min) / 2 * scale;
    const middle = (min + max) / 2 + shift * (max - min);
    zoom(middle - half, middle + half);
  };
  const actions = [["←", "earlier", move(1, -0.3)], ["→", "later", move(1, 0.3)],
    ["+", "closer", move(0.5, 0)], ["−", "farther", move(2, 0)],
    ["whole test", "whole test", () => zoom(0, data.time.end)]];
  for (const [text, label, action] of actions) {
    const button = element("button", text, {type: "button", title: label, "aria-label": label});
    button.onclick = action;
    tools.append(button);
  }
  tools.append(element("span", "drag to zoom, double-click for the whole test", {class: "hint"}));
  const kinds = [["plus", "positive current"], ["minus", "negative current"], ["eis", "spectrum"]];
  const key = element("span", "");
  for (const [kind, text] of kinds.filter(([kind]) => data.time.spans.some((span) => span.kind === kind))) {
    key.append(element("span", "", {class: "key", style: `background:var(--${kind})`}), text);
  }
  if (data.time.spans.some((span) => span.label)) key.append(" (mA/cm² at the top)");
  tools.append(key);
  return tools;
}
