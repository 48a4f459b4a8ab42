/* The steps of a run: done, under way, to come. Long loops are opened only where the run is. */

import {powers} from "./quantities.js";
import {element} from "./report/common.js";

const SIGNS = {done: "✓", now: "●", "to come": "", skipped: "↷", failed: "✗"};

export class Program {
  constructor(holder) {
    this.holder = holder;
  }

  // Drawn only where something changed; what a person has opened stays open.
  update(tree) {
    const text = JSON.stringify(tree);
    if (text === this.shown) return;
    this.shown = text;
    this.open ??= new Map();
    this.holder.replaceChildren(this.list([tree].flat()));
    this.toNow();
  }

  list(steps) {
    return element("ol", steps.map((step) => this.item(step)), {class: "steps"});
  }

  item(step) {
    const state = step.state || "to come";
    const label = [element("span", SIGNS[state] ?? "", {class: "sign", "aria-hidden": "true"}), element("span", powers(step.text)),
      element("span", ` ${state}`, {class: "unseen"})];
    const attributes = {class: `p-${state.replaceAll(" ", "-")}`, title: step.path};
    const children = step.children || [];
    if (!children.length) {
      if (state === "now") attributes["aria-current"] = "step";
      return element("li", element("div", label, {class: "leaf"}), attributes);
    }
    const details = element("details", element("summary", label));
    details.open = this.open.get(step.path) ?? state === "now";
    const fill = () => { if (details.open && details.childElementCount === 1) details.append(this.list(children)); };
    fill();
    details.addEventListener("toggle", fill);
    details.firstChild.addEventListener("click", () => this.open.set(step.path, !details.open));
    return element("li", details, attributes);
  }

  toNow() {
    const now = this.holder.querySelector("[aria-current]");
    if (now) this.holder.scrollTop += now.getBoundingClientRect().top - this.holder.getBoundingClientRect().top - this.holder.clientHeight / 2;
  }
}
