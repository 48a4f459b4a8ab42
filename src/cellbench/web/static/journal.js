/* The journal, newest first: what a person should read, or every entry. */

import {get, runPath} from "./api.js";
import {failed} from "./notices.js";
import {clock, moment, powers} from "./quantities.js";
import {element} from "./report/common.js";

const FIRST = 200;
const MOST = 1000;
const ROUTINE = new Set(["step started", "step ended", "action", "settled"]);
const GRAVE = new Set(["trip", "warning", "deviation", "gap", "host lost", "trouble"]);

export class Journal {
  constructor(holder, run) {
    this.run = run;
    this.entries = new Map();
    this.all = false;
    this.list = element("ol", [], {class: "entries"});
    const choice = element("button", "every entry", {type: "button", "aria-pressed": "false"});
    choice.onclick = () => {
      this.all = !this.all;
      choice.setAttribute("aria-pressed", String(this.all));
      this.load();
    };
    holder.replaceChildren(element("div", choice, {class: "tools"}), this.list);
  }

  async load() {
    try {
      this.entries.clear();
      if (!this.all) this.add((await get(runPath(this.run, "/journal"), {limit: FIRST})).entries);
      let next = this.all ? -1 : null;
      while (next != null) {
        const found = await get(runPath(this.run, "/journal"), {after: next, limit: MOST});
        this.add(found.entries);
        next = found.next;
      }
    } catch (error) {
      failed(error);
    }
  }

  // What comes live may be here before what was asked for.
  add(entries) {
    for (const entry of entries) this.entries.set(entry.number, entry);
    const shown = [...this.entries.values()].filter(({text, kind}) => text && (this.all || !ROUTINE.has(kind)));
    const newest = this.all ? shown : shown.slice(-FIRST);
    this.list.replaceChildren(...newest.sort((a, b) => b.number - a.number).map(line));
  }
}

function line(entry) {
  const time = element("time", clock(entry.time_s), {datetime: entry.utc || "", title: moment(entry.utc)});
  const text = entry.text.startsWith(`${entry.kind}: `) ? entry.text.slice(entry.kind.length + 2) : entry.text;
  const kind = element("span", entry.kind, {class: "kind"});
  return element("li", [time, element("div", [kind, " ", element("span", powers(text))])],
    {class: GRAVE.has(entry.kind) ? "grave" : entry.kind === "note" || entry.kind === "command" ? "human" : ""});
}
