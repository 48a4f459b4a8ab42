/* Signs in with a name and a password, or with the token of the server's link. */

import {post} from "./api.js";

const form = document.getElementById("sign-in");
const refused = document.getElementById("refused");

form.onsubmit = async (event) => {
  event.preventDefault();
  const {user, password, token} = Object.fromEntries(new FormData(form));
  refused.textContent = "";
  try {
    await post("/api/session", token ? {token} : {user, password});
    // Only a path of this server: what else stands there came with a link from elsewhere.
    const next = new URL(form.dataset.next || "/", location.origin);
    location.assign(next.origin === location.origin ? next.pathname + next.search : "/");
  } catch (error) {
    refused.textContent = error.message;
    form.elements.password.value = form.elements.token.value = "";
  }
};
