/* The protocol library: what there is, or one protocol whole. */

import "./page.js";
import {get} from "./api.js";
import {listing} from "./listing.js";
import {failed} from "./notices.js";
import {element} from "./report/common.js";

const name = document.getElementById("main").dataset.protocol;
const holder = document.getElementById("protocols");

function entry(one) {
  const path = `/protocols/${encodeURIComponent(one.name)}`;
  const about = [one.cell ? `meant for ${one.cell}` : "", one.reference || ""].filter(Boolean).join(". ");
  return element("li", [element("a", one.title || one.name, {href: path}), " ", element("code", one.name),
    ...one.text ? [element("p", one.text)] : [], ...about ? [element("p", about, {class: "soft small"})] : []]);
}

try {
  if (name) {
    const {text} = await get(`/api/protocols/${encodeURIComponent(name)}`);
    holder.append(listing(text, new Map(), name));
  } else {
    const {protocols} = await get("/api/protocols");
    holder.append(element("ul", protocols.map(entry), {class: "library"}));
  }
} catch (error) {
  failed(error);
}
