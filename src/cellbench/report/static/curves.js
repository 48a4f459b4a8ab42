/* Any curves over any axes: lines and points of several analyses, coloured by name or along a scale. */

import {FOOT, MARGIN, RIGHT, axis, boxed, brief, charts, colour, element, place} from "./common.js";
import {ordered, rampKey} from "./nyquist.js";

const TRACES = ["trace-1", "trace-2", "trace-3", "trace-4", "soft"];

function curveColour(plot, index) {
  const curve = plot.curves[index];
  if (curve.tone) return colour(curve.tone);
  if (curve.along != null && plot.curves.length > 1) return ordered(curve.along, 2);
  return colour(TRACES[index % TRACES.length]);
}

// The interval that curves need, with a margin, rounded to nothing: ticks say the rest.
function curveRange(curves, key, axisData) {
  const values = curves.flatMap((curve) => curve[key]).filter((value) => !axisData.log || value > 0);
  if (!values.length) return axisData.log ? [0.1, 1] : [0, 1];
  let low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  if (axisData.log) {
    const margin = Math.max((high / low) ** 0.06, Math.sqrt(4 * low / high), 1.1);  // never without two ticks
    return [low / margin, high * margin];
  }
  if (axisData.whole) return [low - Math.max(0.5, 0.04 * (high - low)), high + Math.max(0.5, 0.04 * (high - low))];
  if (axisData.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const margin = 0.06 * (high - low || Math.abs(high) * 0.1 || 1);
  return [axisData.zero && low === 0 ? 0 : low - margin, axisData.zero && high === 0 ? 0 : high + margin];
}

// Efficiencies on a shelf of their own above the capacities, lest each hide the other.
const shelved = ([low, high], [below, above]) => [[low, high / 0.74], [above - (above - below) / 0.22, above]];

// Ticks of a logarithmic axis: powers of ten over many decades, more digits over few, even steps
// where the axis is shorter than that.
const DIGITS = [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]];

function logTicks(_, __, low, high) {
  for (const digits of DIGITS) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const digit of digits) found.push(Number(`${digit}e${power}`));
    }
    const inside = found.filter((value) => value >= low && value <= high);
    if (inside.length >= 3) return inside.filter((_value, index) => index % Math.ceil(inside.length / 9) === 0);
  }
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((digit) => digit * power >= rough), found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}

const plain = (value) => value && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)
  ? value.toExponential().replace("e+", "e") : String(Number(value.toPrecision(6)));
const logged = {splits: logTicks, filter: (_, splits) => splits,
  values: (_, values) => values.map((value) => value == null ? "" : plain(value).replaceAll("-", "−"))};
const ticked = (axisData) => (axisData.log ? logged : axisData.whole ? {incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]} : {});

// A second horizontal axis whose ticks are named places on the first.
const topAxis = ([label, at, texts]) => axis(label, {side: 0, scale: "x", size: FOOT - 18, grid: {show: false},
  splits: () => at, filter: (_, splits) => splits, values: () => texts});

function drawErrors(ctx, curve, x, y) {
  (curve.errors || []).forEach((error, index) => {
    if (!error) return;
    ctx.beginPath();
    ctx.moveTo(x(curve.x[index]), y(curve.y[index] - error));
    ctx.lineTo(x(curve.x[index]), y(curve.y[index] + error));
    for (const end of [-error, error]) {
      ctx.moveTo(x(curve.x[index]) - 3 * devicePixelRatio, y(curve.y[index] + end));
      ctx.lineTo(x(curve.x[index]) + 3 * devicePixelRatio, y(curve.y[index] + end));
    }
    ctx.stroke();
  });
}

function drawMarks(ctx, curve, x, y) {
  const count = curve.x.length;
  const radius = (count > 400 ? 1 : count > 120 ? 1.6 : 3.2) * devicePixelRatio;
  curve.x.forEach((value, index) => {
    ctx.beginPath();
    ctx.arc(x(value), y(curve.y[index]), radius, 0, 7);
    if (curve.mark === "hollow") ctx.stroke(); else ctx.fill();
  });
}

function drawCurve(chart, plot, index) {
  const curve = plot.curves[index], {ctx, bbox} = chart;
  const x = (value) => chart.valToPos(value, "x", true);
  const y = (value) => chart.valToPos(value, curve.right ? "right" : "y", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = ctx.fillStyle = curveColour(plot, index);
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.lineJoin = "round";
  if (["line", "dashed", "both"].includes(curve.mark)) {
    ctx.setLineDash(curve.mark === "dashed" ? [6 * devicePixelRatio, 4 * devicePixelRatio] : []);
    ctx.beginPath();
    curve.x.forEach((value, at) => ctx.lineTo(x(value), y(curve.y[at])));
    ctx.stroke();
    ctx.setLineDash([]);
  }
  if (["points", "hollow", "both"].includes(curve.mark)) drawMarks(ctx, curve, x, y);
  drawErrors(ctx, curve, x, y);
  ctx.restore();
}

function nearestOnCurves(chart, plot, left, top) {
  let best = null, least = 24 ** 2;
  for (const curve of plot.curves) {
    curve.x.forEach((value, index) => {
      const away = (chart.valToPos(value, "x") - left) ** 2
        + (chart.valToPos(curve.y[index], curve.right ? "right" : "y") - top) ** 2;
      if (away < least) [best, least] = [[curve, index], away];
    });
  }
  if (!best) return "";
  const [curve, at] = best, vertical = curve.right ? plot.right : plot.y;
  return `${curve.label ? curve.label + ": " : ""}${brief(curve.y[at])} ${vertical.unit} at ${brief(curve.x[at])} ${plot.x.unit}`;
}

function curveLegend(plot) {
  const list = element("div", "", {class: "curve-key"});
  if (plot.scale) {
    list.append(rampKey(...plot.scale));
    return list;
  }
  if (plot.curves.length < 2) return list;
  plot.curves.forEach((curve, index) => {
    if (!curve.label || plot.curves.findIndex((other) => other.label === curve.label) < index) return;
    const item = element("span", "");
    const shape = ["line", "dashed"].includes(curve.mark) ? curve.mark : curve.mark === "hollow" ? "hollow" : "dot";
    item.append(element("i", "", {class: shape, style: `color:${curveColour(plot, index)}`}),
      curve.label + (curve.right ? " →" : ""));
    list.append(item);
  });
  return list;
}

export function curvePlot(holder, plot) {
  const height = 300;
  const spot = place(holder, plot.title, "", height);
  const left = plot.curves.filter((curve) => !curve.right), right = plot.curves.filter((curve) => curve.right);
  const ranges = {x: curveRange(plot.curves, "x", plot.x), y: curveRange(left, "y", plot.y)};
  const scales = {
    x: {time: false, distr: plot.x.log ? 3 : 1, range: () => ranges.x},
    y: {distr: plot.y.log ? 3 : 1, range: () => ranges.y},
  };
  const axes = [axis(plot.x.label, {size: FOOT - 18, ...ticked(plot.x)}), axis(plot.y.label, ticked(plot.y))];
  const series = [{}, {show: true, paths: () => null, points: {show: false}}];
  const columns = [ranges.x, ranges.y];
  if (right.length) {
    ranges.right = curveRange(right, "y", plot.right);
    if (plot.y.zero) [ranges.y, ranges.right] = shelved(ranges.y, ranges.right);
    scales.right = {range: () => ranges.right};
    axes.push(axis(plot.right.label, {side: 1, scale: "right", size: RIGHT, grid: {show: false}}));
    series.push({show: true, scale: "right", paths: () => null, points: {show: false}});
    columns.push(ranges.right);
  }
  if (plot.top) axes.push(topAxis(plot.top));
  const chart = new uPlot({
    width: spot.width(), height, padding: [plot.top ? 0 : MARGIN, right.length ? 0 : MARGIN, 0, 0], legend: {show: false},
    scales, axes, series, cursor: {points: {show: false}, drag: {x: false, y: false}},
    hooks: {
      draw: [(self) => plot.curves.forEach((_, index) => drawCurve(self, plot, index)), boxed],
      setCursor: [(self) => {
        spot.output.textContent = self.cursor.left < 0 ? "" : nearestOnCurves(self, plot, self.cursor.left, self.cursor.top);
      }],
    },
  }, columns, spot.canvas);
  spot.canvas.after(curveLegend(plot));
  charts.push({chart, spot});
}
