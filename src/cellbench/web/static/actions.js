/* What an operator may ask of a run. Each is confirmed in a dialog that says what it does. */

import {post, runPath} from "./api.js";
import {element} from "./report/common.js";
import {done, failed} from "./notices.js";

const reason = {name: "reason", label: "Reason, for the journal"};

const ACTIONS = {
  pause: {title: "Pause", fields: [reason], text: "The step under way is interrupted at open circuit, or ends first "
    + "where it cannot be. Pressure and temperature are held."},
  continue: {title: "Continue", text: "The pause ends, and the run goes on where it was."},
  skip: {title: "Skip step", text: "The step under way ends now, and the next one begins."},
  stop: {title: "Stop after …", text: "The run ends by itself, in its safe state, once this has ended:", fields: [
    {name: "after", label: "After this", choices: ["cycle", "step"]}]},
  abort: {title: "Abort", danger: true, fields: [reason],
    text: "The run ends now. The cell goes to open circuit, the press holds its force, the chamber holds."},
  emergency: {title: "Emergency stop", danger: true,
    text: "The run ends now. The cell goes to open circuit, then the press takes its force away."},
  note: {title: "Note", text: "Goes into the run's record, with your name.",
    fields: [{name: "text", label: "Note", required: true, lines: 4}]},
};

export const titleOf = (action) => ACTIONS[action].title;
export const isKnown = (action) => action in ACTIONS;

// more: what goes with the action besides what is asked for, such as the step that was looked at.
export async function perform(run, action, more = {}) {
  const {title, text, fields = [], danger} = ACTIONS[action];
  const given = await confirmed({title: `${title}: run ${run}`, text, fields, danger, confirm: title});
  if (given) await asked(run, action, {...given, ...more});
}

export async function asked(run, action, given) {
  try {
    const answer = await post(runPath(run, `/${action}`), {confirm: true, ...given});
    done(answer.done);
  } catch (error) {
    failed(error);
  }
}

export async function stopSeveral(runs) {
  if (!runs.length) return void await confirmed({title: "Emergency stop", text: "No run is active.", confirm: "Close", only: true});
  const fields = runs.map((one) => ({name: one.run, label: `${one.cell}: ${one.protocol} (${one.run})`, checked: true}));
  const given = await confirmed({title: "Emergency stop", text: ACTIONS.emergency.text, fields, danger: true, confirm: "Emergency stop"});
  if (given) await Promise.all(Object.keys(given).map((run) => asked(run, "emergency", {})));
}

// Asks in a dialog; what was filled in, null where the person thought better of it.
function confirmed({title, text, fields = [], danger, confirm, only}) {
  const heading = element("h2", title, {id: "dialog-title"});
  const yes = element("button", confirm, {type: "submit", class: danger ? "emergency" : "main", value: "yes"});
  const no = element("button", "Cancel", {type: "submit", value: "no", formnovalidate: ""});
  const form = element("form", [heading, element("p", text), ...fields.map(field),
    element("div", only ? [yes] : [yes, no], {class: "buttons"})], {method: "dialog"});
  const dialog = element("dialog", form, {"aria-labelledby": "dialog-title"});
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input:not([type=checkbox]), textarea") || yes).focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
      dialog.remove();
    };
  });
}

function field({name, label, choices, required, lines, checked}) {
  if (checked) return element("label", [element("input", "", {type: "checkbox", name, checked: "", value: "yes"}), label], {class: "tick"});
  let input;
  if (choices) input = element("select", choices.map((choice) => element("option", choice)), {name});
  else if (lines) input = element("textarea", "", {name, rows: lines});
  else input = element("input", "", {name, autocomplete: "off"});
  input.required = Boolean(required);
  return element("label", [label, input]);
}
