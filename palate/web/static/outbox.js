// Answers on their way. Each stays in localStorage until the server confirms it, and is sent again under the same key.
// So a lost network, a closed page or a double press gives one judgment. An answer that the server refuses leaves the outbox,
// but not the device: its draft stays until an answer to that assignment is confirmed (rate.js).
import { read, write } from "./storage.js";

const LONGEST_PAUSE_SECONDS = 20;

function reasonOf(status, data) {
  if (typeof data?.detail === "string") return data.detail;
  return status === 413 ? "It is too long for the server. Shorten it." : `The server cannot take it (status ${status}).`;
}

export class Outbox {
  // events: {sent(entry, receipt), held(entry), waiting(count, reason), refused(entry, status, message), signedOut(count)}
  // `held` returns the assignments that the page has already, so that the receipt brings the next ones; undefined asks for none.
  constructor(account, api, events) {
    this.name = `palate:outbox:${account}`;
    this.api = api;
    this.events = events;
    this.memory = [];
    this.isKept = true;
    this.#change((entries) => entries);
    this.running = null;
    this.pause = 0.5;
    addEventListener("online", () => this.drain());
  }

  get entries() { return this.memory; }

  has(assignment) { return this.memory.some((entry) => entry.body.assignment === assignment); }

  put(project, body) {
    if (this.has(body.assignment)) return;
    this.#change((entries) => [...entries, { project, body }]);
    this.drain();
  }

  // Other pages of this person use the same name in storage, so read it before writing.
  #change(edit) {
    this.memory = edit((this.isKept && read(this.name)) || this.memory);
    this.isKept = write(this.name, this.memory);
  }

  drain() {
    clearTimeout(this.timer);
    this.running ??= this.#run().finally(() => { this.running = null; });
    return this.running;
  }

  async #run() {
    while (this.memory.length) {
      const entry = this.memory[0];
      const { status, data } = await this.api.post(`/api/projects/${entry.project}/judgments`, { ...entry.body, held: this.events.held(entry) });
      if (status === 401) { this.events.signedOut(this.memory.length); this.#later(); return; }
      if (status === 0 || status === 429 || status >= 500) {
        this.events.waiting(this.memory.length, status ? "The server is busy" : "No connection");
        this.#later();
        return;
      }
      this.#change((entries) => entries.filter((other) => other.body.key !== entry.body.key));
      this.pause = 0.5;
      if (status < 300) this.events.sent(entry, data);
      else this.events.refused(entry, status, reasonOf(status, data));
    }
  }

  #later() {
    this.pause = Math.min(LONGEST_PAUSE_SECONDS, this.pause * 2);
    this.timer = setTimeout(() => this.drain(), this.pause * 1000);
  }
}
