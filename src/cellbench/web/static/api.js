/* Requests to the server that this page came from. Whoever is not signed in is asked to. */

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const isOperator = meta("role") === "operator";

export const runPath = (run, more = "") => `/api/runs/${encodeURIComponent(run)}${more}`;

export function get(path, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(given).toString();
  return asked(search ? `${path}?${search}` : path, options);
}

export function post(path, body) {
  return asked(path, {
    method: "POST", body: JSON.stringify(body),
    headers: {"Content-Type": "application/json", "X-CSRF-Token": meta("csrf-token")},
  });
}

export const remove = (path) => asked(path, {method: "DELETE", headers: {"X-CSRF-Token": meta("csrf-token")}});

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, {...options, headers: {Accept: "application/json", ...options.headers}});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("cellbench serve does not answer", {cause: error});
  }
  if (response.status === 401 && location.pathname !== "/sign-in") {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
  const isJson = (response.headers.get("Content-Type") || "").includes("json");
  const content = isJson ? await response.json() : {};
  if (!response.ok) throw new Error(content.error || `cellbench serve refused (${response.status})`);
  return content;
}
