/* What every page does: sign out, the emergency stop, answers that pass. */

import {get, isOperator, remove} from "./api.js";
import {element} from "./report/common.js";
import {perform, stopSeveral} from "./actions.js";
import {failed} from "./notices.js";

document.getElementById("sign-out")?.addEventListener("click", async () => {
  try {
    await remove("/api/session");
    location.assign("/sign-in");
  } catch (error) {
    failed(error);
  }
});

// The stop of the run that is shown; elsewhere one is asked which.
async function emergency() {
  const run = document.getElementById("main").dataset.run;
  try {
    const found = await get("/api/runs", {limit: 200});
    const active = found.runs.filter((one) => !one.ended);
    if (active.some((one) => one.run === run)) await perform(run, "quiet");
    else await stopSeveral(active);
  } catch (error) {
    failed(error);
  }
}

if (isOperator) document.getElementById("emergency").onclick = emergency;
