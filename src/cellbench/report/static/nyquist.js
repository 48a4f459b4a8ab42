/* All spectra in one Nyquist plot: points measured, lines fitted, as many ohms per pixel both ways. */

import {AXIS, FOOT, MARGIN, axis, boxed, brief, charts, element, isDark, place} from "./common.js";

const MOST_NAMED = 16;
const RAMP = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

// Viridis, without the end that would vanish on this background.
export function ordered(index, count) {
  const [low, high] = isDark() ? [0.32, 1] : [0, 0.8];
  const at = (low + (high - low) * (count > 1 ? index / (count - 1) : 0)) * (RAMP.length - 1);
  const base = Math.min(Math.floor(at), RAMP.length - 2), part = at - base;
  return `rgb(${RAMP[base].map((value, channel) =>
    Math.round(value + part * (RAMP[base + 1][channel] - value))).join(",")})`;
}

// The same number of ohms per pixel in both directions; what is to spare lies on the right.
function equalView(width, height, [left, right], [bottom, top]) {
  const scale = Math.max((right - left) / width, (top - bottom) / height) || 1;
  return {x: [left, left + scale * width], y: [bottom, bottom + scale * height]};
}

// The points that a view shows at first: a blocking electrode's spike only where it begins.
function framed(shown, whole) {
  const points = shown.flatMap((one) => one.re.map((re, index) => [re, one.im[index], one.spike_beyond]));
  return points.filter(([re, im, beyond]) => whole || !beyond || re < 1.5 * beyond && im < 0.6 * beyond);
}

function bounds(points) {
  const re = points.map((point) => point[0]), im = points.map((point) => point[1]);
  return {left: Math.min(...re), right: Math.max(...re), bottom: Math.min(0, ...im), top: Math.max(...im)};
}

function frame(width, height, shown, whole) {
  const points = framed(shown, whole), {left, right, bottom, top} = bounds(points.length ? points : framed(shown, true));
  const pad = 0.05 * Math.max(right - left, top - bottom);
  return equalView(width, height, [left - pad, right + pad], [bottom - 0.2 * pad, top + pad]);
}

// As high as the arcs need at full width, within what still reads well.
function nyquistHeight(width, spectra) {
  const {left, right, bottom, top} = bounds(framed(spectra, false));
  const across = 1.1 * (right - left), up = 1.15 * (top - bottom);
  return FOOT + MARGIN + Math.round(Math.min(440, Math.max(200, width * up / (across || 1))));
}

function drawSpectrum(chart, spectrum, stroke) {
  const {ctx, bbox} = chart;
  const x = (value) => chart.valToPos(value, "x", true), y = (value) => chart.valToPos(value, "y", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = ctx.fillStyle = stroke;
  ctx.lineWidth = 1.2 * devicePixelRatio;
  ctx.beginPath();
  (spectrum.fit_re || []).forEach((re, index) => ctx.lineTo(x(re), y(spectrum.fit_im[index])));
  ctx.stroke();
  spectrum.re.forEach((re, index) => {
    ctx.beginPath();
    ctx.arc(x(re), y(spectrum.im[index]), 2.4 * devicePixelRatio, 0, 7);
    ctx.fill();
  });
  ctx.restore();
}

function nearest(chart, shown, left, top) {
  let best = null, least = 20 ** 2;
  for (const spectrum of shown) {
    spectrum.re.forEach((re, index) => {
      const distance = (chart.valToPos(re, "x") - left) ** 2 + (chart.valToPos(spectrum.im[index], "y") - top) ** 2;
      if (distance < least) [best, least] = [[spectrum, index], distance];
    });
  }
  if (!best) return "";
  const [spectrum, at] = best;
  return `${spectrum.label}: Z′ ${brief(spectrum.re[at])} Ω, −Z″ ${brief(spectrum.im[at])} Ω at ${frequency(spectrum.frequency[at])}`;
}

function frequency(hertz) {
  const [scale, unit] = hertz >= 1e6 ? [1e6, "MHz"] : hertz >= 1e3 ? [1e3, "kHz"] : hertz >= 1 ? [1, "Hz"] : [1e-3, "mHz"];
  return `${Number((hertz / scale).toPrecision(3))} ${unit}`;
}

export function nyquistPlot(holder, {spectra, scale}) {
  const hidden = new Set();
  holder.replaceChildren();
  const height = nyquistHeight(holder.clientWidth - AXIS - MARGIN, spectra);
  const spot = place(holder, "Nyquist, points measured and lines fitted", "Ω", height);
  const inner = () => [spot.width() - AXIS - MARGIN, height - FOOT - MARGIN];
  const shown = () => spectra.filter((one) => !hidden.has(one));
  let view = frame(...inner(), spectra, false);
  const show = (next) => {
    view = next;
    chart.batch(() => { for (const key of ["x", "y"]) chart.setScale(key, {min: view[key][0], max: view[key][1]}); });
  };
  const fitted = (whole) => () => show(frame(...inner(), shown().length ? shown() : spectra, whole));
  const chart = new uPlot({
    width: spot.width(), height, padding: [MARGIN, MARGIN, 0, 0], legend: {show: false},
    scales: {x: {time: false, range: () => view.x}, y: {range: () => view.y}},
    axes: [axis("Z′ / Ω", {size: FOOT - 18}), axis("−Z″ / Ω")],
    series: [{}, {show: true, paths: () => null, points: {show: false}}],
    cursor: {points: {show: false}, drag: {x: true, y: true, setScale: false, dist: 5},
      bind: {dblclick: () => fitted(true)}},
    hooks: {
      draw: [(self) => spectra.forEach((one) => {
        if (!hidden.has(one)) drawSpectrum(self, one, ordered(one.along, 2));
      }), boxed],
      setCursor: [(self) => { spot.output.textContent = self.cursor.left < 0 ? "" : nearest(self, shown(), self.cursor.left, self.cursor.top); }],
      setSelect: [(self) => {
        const {left, top, width, height: tall} = self.select;
        if (width < 5 || tall < 5) return;
        const x = [self.posToVal(left, "x"), self.posToVal(left + width, "x")];
        show(equalView(...inner(), x, [self.posToVal(top + tall, "y"), self.posToVal(top, "y")]));
        self.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
      }],
    },
  }, [view.x, view.y], spot.canvas);
  charts.push({chart, spot, after: fitted(false)});
  holder.append(legend(spectra, scale, hidden, () => chart.redraw(false), fitted));
}

// Both ends of the colour scale, where there are too many to name each.
export function rampKey(name, first, last) {
  const key = element("span", "", {class: "curve-key"});
  const stops = [0, 0.25, 0.5, 0.75, 1].map((at) => ordered(at, 2)).join(",");
  key.append(element("span", `${name}  ${first}`),
    element("i", "", {class: "ramp", style: `background:linear-gradient(to right,${stops})`}), element("span", last));
  return key;
}

function legend(spectra, scale, hidden, redraw, fitted) {
  const list = element("div", "", {class: "legend", role: "group", "aria-label": "Spectra shown"});
  if (spectra.length > MOST_NAMED) list.append(rampKey(...scale));
  else spectra.forEach((spectrum) => {
    const button = element("button", spectrum.label, {type: "button", "aria-pressed": "true"});
    button.prepend(element("i", "", {style: `background:${ordered(spectrum.along, 2)}`}));
    button.onclick = () => {
      if (!hidden.delete(spectrum)) hidden.add(spectrum);
      button.setAttribute("aria-pressed", String(!hidden.has(spectrum)));
      redraw();
    };
    list.append(button);
  });
  const views = [["all points", true]];
  if (spectra.some((one) => one.spike_beyond)) views.unshift(["arcs", false]);
  for (const [text, whole] of views) {
    const button = element("button", text, {type: "button", class: "whole", style: "border-color:var(--line)"});
    button.onclick = fitted(whole);
    list.append(button);
  }
  return list;
}
