/* The numbers of a report's plots, which are in its page as JSON. */

export const data = JSON.parse(document.getElementById("data").textContent);
