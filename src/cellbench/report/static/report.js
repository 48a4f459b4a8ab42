/* Draws all plots, and draws them again for another width, another theme, or paper. */

import {charts, resize, root} from "./common.js";
import {curvePlot} from "./curves.js";
import {data} from "./data.js";
import {nyquistPlot} from "./nyquist.js";
import {timePlot} from "./time.js";

function drawAll() {
  for (const {chart} of charts.splice(0)) chart.destroy();
  if (data.time.panels.length) timePlot();
  for (const holder of document.querySelectorAll("[data-curves]")) {
    holder.replaceChildren();
    for (const plot of data.curves[holder.dataset.curves]) curvePlot(holder, plot);
  }
  const nyquist = document.getElementById("nyquist-plot");
  if (nyquist) nyquistPlot(nyquist, data.nyquist);
  resize();  // the first of a pair was drawn when it had the whole width
}

const onPaper = (isPaper) => () => { root.classList.toggle("paper", isPaper); drawAll(); };
addEventListener("resize", resize);
addEventListener("beforeprint", onPaper(true));
addEventListener("afterprint", onPaper(false));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
