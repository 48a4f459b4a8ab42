/* What every plot of a report shares: colours, numbers as text, axes, a place on the page.
   The template puts the scripts of a report into one function, so that they see each other;
   the numbers are in the page as JSON, and nothing is loaded from anywhere. */

const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const AXIS = 62;     // width of a vertical axis, px
const RIGHT = 44;    // width of the one on the right
const FOOT = 44;     // height of a horizontal axis with its label, px
const MARGIN = 10;
const FONT = "12px system-ui, sans-serif";
const LEAST = {voltage: 0.002, current: 1e-4, temperature: 1, "stack pressure": 0.1};  // least height of an axis, in its unit
const charts = [];

const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
const isDark = () => !root.classList.contains("paper") && matchMedia("(prefers-color-scheme: dark)").matches;
const brief = (value) => value == null ? "–" : String(Number(value.toPrecision(4))).replace("-", "−");
const short = (value) => value && Math.abs(value) < 1e-4 ? value.toExponential()
  : Math.abs(value) >= 1e4 ? `${Number((value / 1e3).toPrecision(4))}k` : String(Number(value.toPrecision(6)));
const ticks = (_, values) => values.map((value) => value == null ? "" : short(value).replaceAll("-", "−"));

function element(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = content;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// A thin frame around what is drawn, as in print.
function boxed({ctx, bbox}) {
  ctx.save();
  ctx.strokeStyle = colour("frame");
  ctx.lineWidth = devicePixelRatio;
  ctx.strokeRect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.restore();
}

function axis(label, more = {}) {
  return {
    label, labelSize: 18, labelGap: 2, labelFont: FONT, font: FONT, gap: 4, size: AXIS - 18,
    stroke: colour("soft"), grid: {stroke: colour("grid"), width: 1},
    ticks: {stroke: colour("frame"), width: 1, size: 4}, values: ticks, ...more,
  };
}

// A titled place for one plot, and a line in which it says what the pointer is on.
function place(holder, title, unit, height) {
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
