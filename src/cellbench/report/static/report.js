/* The plots of a cellbench report: everything against one time axis, a Nyquist overlay, levels.
   The numbers are in the page as JSON; nothing is loaded from anywhere. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const AXIS = 62;     // width of a vertical axis, px
  const RIGHT = 44;    // width of the one on the right
  const FOOT = 40;     // height of a horizontal axis with its label, px
  const MARGIN = 10;
  const FONT = "12px system-ui, sans-serif";
  const LEAST = {voltage: 0.002, current: 1e-4, temperature: 1, "stack pressure": 0.1};  // least height of an axis, in its unit
  const charts = [];

  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const isDark = () => !root.classList.contains("paper") && matchMedia("(prefers-color-scheme: dark)").matches;
  const brief = (value) => value == null ? "–" : String(Number(value.toPrecision(4))).replace("-", "−");
  const short = (value) => Math.abs(value) >= 1e4 ? `${Number((value / 1e3).toPrecision(4))}k` : String(Number(value.toPrecision(6)));
  const ticks = (_, values) => values.map((value) => value == null ? "" : short(value).replace("-", "−"));

  function element(tag, content, attributes = {}) {
    const node = document.createElement(tag);
    node.textContent = content;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  function axis(label, more = {}) {
    return {
      label, labelSize: 18, labelGap: 0, labelFont: FONT, font: FONT, gap: 4, size: AXIS - 18,
      stroke: colour("soft"), grid: {stroke: colour("grid"), width: 1},
      ticks: {stroke: colour("grid"), width: 1, size: 4}, values: ticks, ...more,
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

  // --- Everything against time -----------------------------------------------------------------

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
        drawClear: [shadeSteps], draw: index === 0 ? [nameSteps] : [],
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
    const kinds = [["plus", "positive half-cycle"], ["minus", "negative half-cycle"], ["eis", "spectrum"]];
    const key = element("span", "");
    for (const [kind, text] of kinds.filter(([kind]) => data.time.spans.some((span) => span.kind === kind))) {
      key.append(element("span", "", {class: "key", style: `background:var(--${kind})`}), text);
    }
    if (data.time.spans.some((span) => span.label)) key.append(" (mA/cm² at the top)");
    tools.append(key);
    return tools;
  }

  // --- Nyquist -------------------------------------------------------------------------------

  const RAMP = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

  // Viridis, without the end that would vanish on this background.
  function ordered(index, count) {
    const [low, high] = isDark() ? [0.32, 1] : [0, 0.8];
    const at = (low + (high - low) * (count > 1 ? index / (count - 1) : 0)) * (RAMP.length - 1);
    const base = Math.min(Math.floor(at), RAMP.length - 2), part = at - base;
    return `rgb(${RAMP[base].map((value, channel) =>
      Math.round(value + part * (RAMP[base + 1][channel] - value))).join(",")})`;
  }

  // The same number of ohms per pixel in both directions.
  function equalView(width, height, [left, right], [bottom, top]) {
    const scale = Math.max((right - left) / width, (top - bottom) / height) || 1;
    const middle = (left + right) / 2;
    return {x: [middle - scale * width / 2, middle + scale * width / 2], y: [bottom, bottom + scale * height]};
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

  // 1, 2, 5 in every decade of a logarithmic axis.
  function decades(_, __, low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const digit of [1, 2, 5]) found.push(Number(`${digit}e${power}`));
    }
    return found.filter((value) => value >= low && value <= high);
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

  function nyquistPlot() {
    const holder = document.getElementById("nyquist-plot");
    if (!holder) return;
    holder.replaceChildren();
    const spectra = data.nyquist, hidden = new Set();
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
        draw: [(self) => spectra.forEach((one, index) => {
          if (!hidden.has(one)) drawSpectrum(self, one, ordered(index, spectra.length));
        })],
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
    holder.append(legend(spectra, hidden, () => chart.redraw(false), fitted));
  }

  function legend(spectra, hidden, redraw, fitted) {
    const list = element("div", "", {class: "legend", role: "group", "aria-label": "Spectra shown"});
    spectra.forEach((spectrum, index) => {
      const button = element("button", spectrum.label, {type: "button", "aria-pressed": "true"});
      button.prepend(element("i", "", {style: `background:${ordered(index, spectra.length)}`}));
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

  // --- Levels: against current density or stack pressure --------------------------------------

  const KINDS = {
    stable: ["good", false], irregular: ["warn-fill", true], "soft short": ["warn-fill", true],
    short: ["bad", true], "": ["trace-1", true],
  };

  function levelSeries(plot, verdicts) {
    const line = {stroke: colour("line"), width: 1.5, points: {show: false}, spanGaps: true};
    return [{}, line, ...verdicts.map((verdict) => {
      const [name, filled] = KINDS[verdict] || ["soft", false];
      return {paths: () => null, stroke: colour(name), points: {show: true, size: verdict === "short" ? 11 : 8, width: 2,
        stroke: colour(name), fill: filled ? colour(name) : colour("page")}};
    })];
  }

  function levelPlot(holder, plot) {
    const height = 250;
    const spot = place(holder, plot.name, plot.unit, height);
    const verdicts = [...new Set(plot.verdicts.length ? plot.verdicts : [""])];
    const columns = verdicts.map((verdict) =>
      plot.y.map((value, index) => (plot.verdicts[index] || "") === verdict ? value : null));
    const most = Math.max(...plot.y.filter((value) => value != null), 0);
    const [first, last] = [plot.x[0], plot.x[plot.x.length - 1]];
    const across = plot.log ? [first / 1.25, last * 1.25] : [first - 0.06 * (last - first || 1), last + 0.06 * (last - first || 1)];
    const chart = new uPlot({
      width: spot.width(), height, padding: [8, MARGIN, 0, 0], legend: {show: false},
      scales: {x: {time: false, distr: plot.log ? 3 : 1, range: () => across}, y: {range: () => [0, 1.1 * most || 1]}},
      axes: [axis(`${plot.along} / ${plot.along_unit}`, {size: FOOT - 18, ...(plot.log ? {splits: decades, filter: (_, splits) => splits} : {})}),
        axis(null, {size: AXIS})],
      series: levelSeries(plot, verdicts), cursor: {drag: {x: false, y: false}, y: false, points: {show: false}},
      hooks: {setCursor: [(self) => {
        const at = self.cursor.idx;
        spot.output.textContent = at == null || self.cursor.left < 0 ? "" :
          `${brief(plot.y[at])} ${plot.unit} at ${brief(plot.x[at])} ${plot.along_unit}${plot.verdicts[at] ? ", " + plot.verdicts[at] : ""}`;
      }]},
    }, [plot.x, plot.y, ...columns], spot.canvas);
    charts.push({chart, spot});
  }

  function levelPlots() {
    const holder = document.getElementById("level-plots");
    if (!holder) return;
    holder.replaceChildren();
    for (const plot of data.levels) if (plot.x.length) levelPlot(holder, plot);
  }

  // --- Drawing, and drawing again ---------------------------------------------------------------

  function drawAll() {
    for (const {chart} of charts.splice(0)) chart.destroy();
    if (data.time.panels.length) timePlot();
    levelPlots();
    nyquistPlot();
  }

  function resize() {
    for (const {chart, spot, after} of charts) {
      chart.setSize({width: spot.width(), height: chart.height});
      if (after) after();
    }
  }

  const onPaper = (isPaper) => () => { root.classList.toggle("paper", isPaper); drawAll(); };
  addEventListener("resize", resize);
  addEventListener("beforeprint", onPaper(true));
  addEventListener("afterprint", onPaper(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
