/* What every page does: sign out, the emergency stop, answers that pass. */

import {get, isOperator, remove} from "./api.js";
import {perform, stopSeveral} from "./actions.js";
import {failed} from "./notices.js";

async function signOut() {
  try {
    await remove("/api/session");
    location.assign("/sign-in");
  } catch (error) {
    failed(error);
  }
}

// The runs that the stop is for. Pages that know theirs say so: then it asks nobody first.
export const known = {active: async () => (await get("/api/runs", {limit: 200})).runs.filter(({ended}) => !ended)};

async function emergency() {
  try {
    const active = await known.active();
    if (active.length === 1) await perform(active[0].run, "emergency");
    else await stopSeveral(active);
  } catch (error) {
    failed(error);
  }
}

function ready(id, act) {
  const button = document.getElementById(id);
  button.onclick = act;
  button.disabled = false;
}

ready("sign-out", signOut);
if (isOperator) ready("emergency", emergency);
