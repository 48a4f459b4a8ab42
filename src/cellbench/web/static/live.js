/* What the server tells by itself, and what the page says when it falls silent: values that are no
   longer fed look stale, and a line says since when. */

import {get} from "./api.js";

const SILENT_MS = 12_000;   // the server's heartbeat comes every 5 s
const AGAIN_MS = 3_000;

export class Live {
  // handlers: by name of event; `again` is called when the connection is there again.
  // after: the cursor up to which the page knows all, empty for a stream without one.
  constructor(url, handlers, after = "") {
    this.url = url;
    this.after = after;
    this.handlers = handlers;
    this.heard = this.tried = Date.now();
    this.lost = false;
    this.line = document.getElementById("connection");
    this.open();
    setInterval(() => this.look(), 1000);
    addEventListener("pagehide", () => this.source.close());
  }

  open() {
    this.tried = Date.now();
    this.source = new EventSource(this.after ? `${this.url}?after=${encodeURIComponent(this.after)}` : this.url);
    this.source.onopen = () => this.hear();
    this.source.addEventListener("heartbeat", () => this.hear());
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (event) => {
        this.after = event.lastEventId || this.after;
        this.hear();
        handle(JSON.parse(event.data));
      });
    }
    this.source.onerror = () => this.look();
  }

  hear() {
    this.heard = Date.now();
    if (!this.lost) return;
    this.tell(false);
    this.handlers.again?.();
  }

  look() {
    const silent_ms = Date.now() - this.heard;
    const isOpen = this.source.readyState === EventSource.OPEN;
    if (isOpen && silent_ms < SILENT_MS) return;
    this.tell(true);
    this.line.textContent = `Connection lost. Last values ${Math.round(silent_ms / 1000)} s old.`;
    if (this.source.readyState !== EventSource.CONNECTING && Date.now() - this.tried > AGAIN_MS) this.reopen();
  }

  // A server that was begun anew knows no session: whoever asks is led to the sign-in.
  reopen() {
    this.source.close();
    get("/api/session").catch(() => {});
    this.open();
  }

  tell(isLost) {
    this.lost = isLost;
    this.line.hidden = !isLost;
    document.body.classList.toggle("unfed", isLost);
  }
}
