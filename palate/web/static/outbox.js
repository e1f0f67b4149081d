// Answers on their way. Each is kept in localStorage until the server says it has it, and is sent again under the same key,
// so that a lost network, a closed page or a double press gives one judgment.
import { read, write } from "./storage.js";

const LONGEST_PAUSE_SECONDS = 20;

export class Outbox {
  // told: {sent(entry, receipt), held(entry), waiting(count, reason), refused(entry, message), signedOut(count)}
  // held: the assignments that the page has already, so that the receipt brings those that follow; undefined when it wants none.
  constructor(account, api, told) {
    this.name = `palate:outbox:${account}`;
    this.api = api;
    this.told = told;
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

  // Other pages of this person keep theirs under the same name: what is there is read before it is written.
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
      const { status, data } = await this.api.post(`/api/projects/${entry.project}/judgments`, { ...entry.body, held: this.told.held(entry) });
      if (status === 401) { this.told.signedOut(this.memory.length); this.#later(); return; }
      if (status === 0 || status === 429 || status >= 500) {
        this.told.waiting(this.memory.length, status ? "The server is busy" : "No connection");
        this.#later();
        return;
      }
      this.#change((entries) => entries.filter((other) => other.body.key !== entry.body.key));
      this.pause = 0.5;
      if (status < 300) this.told.sent(entry, data);
      else this.told.refused(entry, data?.detail ?? `status ${status}`);
    }
  }

  #later() {
    this.pause = Math.min(LONGEST_PAUSE_SECONDS, this.pause * 2);
    this.timer = setTimeout(() => this.drain(), this.pause * 1000);
  }
}
