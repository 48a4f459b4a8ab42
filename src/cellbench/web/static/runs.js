/* Search over all runs; those that are ticked can be looked at in one plot. */

import "./page.js";
import {get} from "./api.js";
import {failed} from "./notices.js";
import {runTable} from "./run_table.js";
import {element} from "./report/common.js";

const PAGE = 50;
const STATES = ["running", "completed", "stopped", "aborted", "failed", "interrupted"];
const form = document.getElementById("search");
const more = document.getElementById("more");
const link = document.getElementById("compare");
let shown = [], next = null;

const chosen = new (class extends Set {
  change(run, isIn) {
    if (isIn) this.add(run);
    else this.delete(run);
    link.hidden = this.size < 2;
    link.textContent = `Compare ${this.size} runs`;
    link.href = `/compare?runs=${[...this].map(encodeURIComponent).join(",")}`;
  }
})();

form.elements.state.append(...STATES.map((state) => element("option", state)));
for (const [name, value] of new URLSearchParams(location.search)) {
  if (form.elements[name]) form.elements[name].value = value;
}

async function search(before = null) {
  const asked = Object.fromEntries(new FormData(form));
  try {
    const found = await get("/api/runs", {...asked, limit: PAGE, before});
    shown = before ? [...shown, ...found.runs] : found.runs;
    next = found.next;
    more.hidden = !next;
    const content = shown.length ? runTable(shown, chosen) : element("p", "No run is like that.");
    document.getElementById("found").replaceChildren(content);
  } catch (error) {
    failed(error);
  }
}

form.onsubmit = (event) => {
  event.preventDefault();
  const given = [...new FormData(form)].filter(([, value]) => value);
  history.replaceState(null, "", given.length ? `?${new URLSearchParams(given)}` : location.pathname);
  search();
};
more.onclick = () => search(next);
search();
