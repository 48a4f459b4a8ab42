/* Signs in with a name and a password, with a token, or by the link that the server printed. */

import {post} from "./api.js";

const form = document.getElementById("sign-in");
const refused = document.getElementById("refused");

async function signIn(credentials) {
  refused.textContent = "";
  try {
    await post("/api/session", credentials);
    // Only a path of this server: what else stands there came with a link from elsewhere.
    const next = new URL(form.dataset.next || "/", location.origin);
    location.assign(next.origin === location.origin ? next.pathname + next.search : "/");
  } catch (error) {
    refused.textContent = error.message;
    form.elements.password.value = form.elements.token.value = "";
  }
}

form.onsubmit = (event) => {
  event.preventDefault();
  const {user, password, token} = Object.fromEntries(new FormData(form));
  signIn(token ? {token} : {user, password});
};

// The link's token stands behind the "#", which no server is sent; nor does it stay in the history.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  signIn({token});
}
