/* What the run was doing, behind a plot against time: which way the current went, spectra. */

import {colour} from "./common.js";

export function shadeSteps(chart, spans) {
  const {ctx, bbox} = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const span of spans) {
    const left = chart.valToPos(span.from, "x", true);
    ctx.fillStyle = colour(span.kind);
    ctx.fillRect(left, bbox.top, chart.valToPos(span.to, "x", true) - left, bbox.height);
  }
  ctx.restore();
}

export function nameSteps(chart, spans) {
  const {ctx, bbox} = chart;
  ctx.save();
  ctx.fillStyle = colour("soft");
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  for (const span of spans) {
    if (!span.label) continue;
    const left = Math.max(chart.valToPos(span.from, "x", true), bbox.left);
    const right = Math.min(chart.valToPos(span.to, "x", true), bbox.left + bbox.width);
    if (right - left > ctx.measureText(span.label).width + 4 * devicePixelRatio) {
      ctx.fillText(span.label, (left + right) / 2, bbox.top + 3 * devicePixelRatio);
    }
  }
  ctx.restore();
}
