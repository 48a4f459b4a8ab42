/* All cells at a glance; first the one that needs a hand. */

import "./page.js";
import {get} from "./api.js";
import {Card} from "./card.js";
import {Live} from "./live.js";
import {failed} from "./notices.js";
import {runTable} from "./run_table.js";

const ENDED_SHOWN = 12;
const RANK = {trouble: 0, lost: 0, stale: 3, held: 4};

const cards = new Map();
const ended = new Map();
const holder = document.getElementById("cards");

function rank({summary}) {
  const {needs, health, state} = summary;
  if (needs && RANK[health] !== 0) return state === "asking" ? 1 : 2;
  return RANK[health] ?? 5;
}

function take(summary) {
  if (summary.ended) {
    cards.get(summary.run)?.node.remove();
    cards.delete(summary.run);
    ended.set(summary.run, summary);
  } else if (cards.has(summary.run)) {
    cards.get(summary.run).update(summary);
  } else {
    ended.delete(summary.run);
    cards.set(summary.run, new Card(summary));
  }
}

// Moves a card only where it has to go: a node that moves loses focus.
function arrange() {
  const sorted = [...cards.values()].sort((a, b) => rank(a) - rank(b)
    || a.summary.cell.localeCompare(b.summary.cell) || a.summary.run.localeCompare(b.summary.run));
  sorted.forEach((card, index) => {
    if (holder.children[index] !== card.node) holder.insertBefore(card.node, holder.children[index] || null);
  });
  const needy = sorted.filter(({summary}) => summary.needs).length;
  document.getElementById("tally").textContent = sorted.length
    ? `${sorted.length} active${needy ? `, ${needy} ${needy === 1 ? "needs" : "need"} a hand` : ""}` : "";
  document.title = `${needy ? `(${needy}) ` : ""}Overview · cellbench`;
  document.getElementById("none").hidden = sorted.length > 0;
}

function showEnded() {
  const newest = [...ended.values()].sort((a, b) => b.ended.localeCompare(a.ended)).slice(0, ENDED_SHOWN);
  document.getElementById("ended").hidden = !newest.length;
  document.getElementById("ended-runs").replaceChildren(runTable(newest));
}

async function load() {
  try {
    const {runs} = await get("/api/runs", {limit: 100});
    runs.forEach(take);
    arrange();
    showEnded();
  } catch (error) {
    failed(error);
  }
}

await load();
new Live("/api/events", {
  run: (summary) => {
    take(summary);
    arrange();
    if (summary.ended) showEnded();
  },
  again: load,
});
setInterval(() => cards.forEach((card) => card.draw()), 1000);
