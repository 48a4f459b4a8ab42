/* What was found level by level: against current density, or against stack pressure. */

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
