/* What every plot shares: colours, numbers as text, axes, a place on the page.
   The pages of `cellbench serve` load these files as modules. A report is one file: its template
   puts them into one function, where they see each other without imports and exports. */

export const root = document.documentElement;
export const AXIS = 62;     // width of a vertical axis, px
export const RIGHT = 44;    // width of the one on the right
export const FOOT = 44;     // height of a horizontal axis with its label, px
export const MARGIN = 10;
const FONT = "12px system-ui, sans-serif";
export const LEAST = {voltage: 0.002, current: 1e-4, temperature: 1, "stack pressure": 0.1};  // least height of an axis, in its unit
export const charts = [];

export const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
export const isDark = () => !root.classList.contains("paper") && matchMedia("(prefers-color-scheme: dark)").matches;
export const brief = (value) => value == null ? "–" : String(Number(value.toPrecision(4))).replace("-", "−");
const short = (value) => value && Math.abs(value) < 1e-4 ? value.toExponential()
  : Math.abs(value) >= 1e4 ? `${Number((value / 1e3).toPrecision(4))}k` : String(Number(value.toPrecision(6)));
export const ticks = (_, values) => values.map((value) => value == null ? "" : short(value).replaceAll("-", "−"));

// An element with text or nodes in it. A style is set as one: a strict content policy refuses the
// attribute.
export function element(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  node.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") node.style.cssText = value;
    else node.setAttribute(name, value);
  }
  return node;
}

// A thin frame around what is drawn, as in print.
export function boxed({ctx, bbox}) {
  ctx.save();
  ctx.strokeStyle = colour("frame");
  ctx.lineWidth = devicePixelRatio;
  ctx.strokeRect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.restore();
}

export function axis(label, more = {}) {
  return {
    label, labelSize: 18, labelGap: 2, labelFont: FONT, font: FONT, gap: 4, size: AXIS - 18,
    stroke: colour("soft"), grid: {stroke: colour("grid"), width: 1},
    ticks: {stroke: colour("frame"), width: 1, size: 4}, values: ticks, ...more,
  };
}

// A range that fits the values, but never makes mountains of the last digit.
export function atLeast(span) {
  return (_, low, high) => {
    if (low == null) return [0, 1];
    const more = Math.max(0, span - (high - low)) / 2;
    return uPlot.rangeNum(low - more, high + more, 0.08, true);
  };
}

// A line that ends at each gap (null), exactly there; undefined is another line's time, and no gap.
export function brokenLine(chart, series, from, to) {
  const path = new Path2D(), times = chart.data[0], values = chart.data[series];
  let isOn = false;
  for (let row = Math.max(0, from - 1); row <= Math.min(times.length - 1, to + 1); row += 1) {
    if (values[row] === undefined) continue;
    if (values[row] === null) {
      isOn = false;
      continue;
    }
    const x = chart.valToPos(times[row], "x", true), y = chart.valToPos(values[row], "y", true);
    if (!isOn) path.moveTo(x - devicePixelRatio / 2, y);
    path.lineTo(x, y);
    isOn = true;
  }
  return {stroke: path, fill: null, clip: null, band: null, gaps: null, flags: 1};
}

// A titled place for one plot, and a line in which it says what the pointer is on.
export function place(holder, title, unit, height) {
  const box = element("div", "", {class: "plot"});
  const head = element("div", "", {class: "plot-head"});
  const output = element("output", "");
  head.append(element("b", unit ? `${title} / ${unit}` : title), output);
  const canvas = element("div", "", {role: "img", "aria-label": `Plot of ${title}`, style: `height:${height}px`});
  box.append(head, canvas);
  holder.append(box);
  return {canvas, output, width: () => Math.max(240, Math.floor(holder.classList.contains("pair")
    ? canvas.clientWidth : holder.clientWidth))};
}

// Takes all charts out of a part of the page, and all else that is in it.
export function clear(holder) {
  for (const one of charts.filter(({chart}) => holder.contains(chart.root))) {
    charts.splice(charts.indexOf(one), 1);
    one.chart.destroy();
  }
  holder.replaceChildren();
}

export function resize() {
  for (const {chart, spot, after} of charts) {
    chart.setSize({width: spot.width(), height: chart.height});
    if (after) after();
  }
}
