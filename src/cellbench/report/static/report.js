/* Draws all plots, and draws them again for another width, another theme, or paper. */

function drawAll() {
  for (const {chart} of charts.splice(0)) chart.destroy();
  if (data.time.panels.length) timePlot();
  curvePlots();
  nyquistPlot();
  resize();  // the first of a pair was drawn when it had the whole width
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
