/* Voltage, current, stack pressure and temperature against one time axis, zoomed together. */

function shadeSteps(chart) {
  const {ctx, bbox} = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const span of data.time.spans) {
    const left = chart.valToPos(span.from, "x", true);
    ctx.fillStyle = colour(span.kind);
    ctx.fillRect(left, bbox.top, chart.valToPos(span.to, "x", true) - left, bbox.height);
  }
  ctx.restore();
}

function nameSteps(chart) {
  const {ctx, bbox} = chart;
  ctx.save();
  ctx.fillStyle = colour("soft");
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  for (const span of data.time.spans) {
    if (!span.label) continue;
    const left = Math.max(chart.valToPos(span.from, "x", true), bbox.left);
    const right = Math.min(chart.valToPos(span.to, "x", true), bbox.left + bbox.width);
    if (right - left > ctx.measureText(span.label).width + 4 * devicePixelRatio) {
      ctx.fillText(span.label, (left + right) / 2, bbox.top + 3 * devicePixelRatio);
    }
  }
  ctx.restore();
}

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

// A range that fits the values, but never makes mountains of the last digit.
function atLeast(span) {
  return (_, low, high) => {
    if (low == null) return [0, 1];
    const more = Math.max(0, span - (high - low)) / 2;
    return uPlot.rangeNum(low - more, high + more, 0.08, true);
  };
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
    series: [{}, {stroke: colour(`trace-${index + 1}`), width: 1.3, points: {show: false}, spanGaps: false, pxAlign: 0}],
    cursor: {sync: {key: "time"}, y: false, points: {size: 6}, drag: {x: true, y: false, dist: 5},
      bind: {dblclick: () => () => zoom(0, data.time.end)}},
    hooks: {
      drawClear: [shadeSteps], draw: index === 0 ? [nameSteps, boxed] : [boxed],
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

function timePlot() {
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
