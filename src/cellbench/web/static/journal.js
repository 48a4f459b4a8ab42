/* The journal, newest first: what a person should read, or every entry. */

import {get, runPath} from "./api.js";
import {failed} from "./notices.js";
import {clock, moment, powers} from "./quantities.js";
import {element} from "./report/common.js";

const FIRST = 200;
const ALL = 100_000;
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
      const {entries} = await get(runPath(this.run, "/journal"), {limit: this.all ? ALL : FIRST});
      this.list.replaceChildren();
      this.entries.clear();
      this.add(entries);
    } catch (error) {
      failed(error);
    }
  }

  add(entries) {
    for (const entry of entries) {
      if (this.entries.has(entry.number)) continue;
      this.entries.set(entry.number, entry);
      if (entry.text && (this.all || !ROUTINE.has(entry.kind))) this.list.prepend(line(entry));
    }
  }
}

function line(entry) {
  const time = element("time", clock(entry.time_s), {datetime: entry.utc || "", title: moment(entry.utc)});
  const kind = element("span", entry.kind, {class: "kind"});
  return element("li", [time, element("div", [kind, " ", element("span", powers(entry.text))])],
    {class: GRAVE.has(entry.kind) ? "grave" : entry.kind === "note" || entry.kind === "command" ? "human" : ""});
}
