// A dialogue with the model under test: the rater tries to make it break the rule.
import { excess } from "./answer.js";

const MODEL_MS = 75000; // longer than the server waits for the model, so that its message arrives
const SLOW_SECONDS = 5;

export class Probe {
  constructor(box, { api, project, answers, changed, say }) {
    Object.assign(this, { box, api, project, answers, changed, say });
    this.field = box.querySelector("textarea");
    this.button = box.querySelector("button");
    this.status = box.querySelector(".hintline");
    this.button.addEventListener("click", () => this.send());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey && !event.isComposing) { event.preventDefault(); this.send(); }
    });
  }

  show(assignment) {
    this.assignment = assignment;
    this.#wait(false);
    this.status.textContent = "";
    this.#draw();
  }

  async send() {
    const text = this.field.value.trim();
    if (!text || this.pending) return;
    const surplus = excess(this.field);
    if (surplus > 0) { this.status.textContent = `The message is too long. Shorten it by ${surplus.toLocaleString("en")} characters.`; return; }
    const dialogue = [...this.answers.dialogue, { role: "user", text }];
    const request = { assignment: this.assignment };
    this.#wait(request);
    const { status, data } = await this.api.post(`/api/projects/${this.project}/assignments/${this.assignment}/probe`, { dialogue }, MODEL_MS);
    if (this.pending !== request) return; // the page shows another item by now
    this.#wait(false);
    if (status === 200) {
      this.answers.dialogue = [...dialogue, { role: "assistant", text: data.text }];
      this.field.value = "";
      this.status.textContent = "";
      this.#draw();
      this.say(`The model says: ${data.text}`);
    } else this.status.textContent = this.#trouble(status, data);
    this.changed();
    this.field.focus({ preventScroll: true });
  }

  #trouble(status, data) {
    if (status === 401) return "You are signed out. Sign in again in another tab; your text is kept.";
    return status && data?.detail ? data.detail : "No connection. Your text is kept; try again.";
  }

  // While the model replies, the text cannot change, so the page shows what was sent.
  #wait(request) {
    clearInterval(this.ticking);
    this.pending = request || null;
    this.field.readOnly = Boolean(request);
    this.button.disabled = Boolean(request);
    this.button.textContent = request ? "Waiting for the model" : "Send";
    if (!request) return;
    this.status.textContent = "";
    const begun = performance.now();
    this.ticking = setInterval(() => {
      const seconds = Math.round((performance.now() - begun) / 1000);
      if (seconds >= SLOW_SECONDS) this.status.textContent = `The model is slow (${seconds} s). You can wait, skip, or come back: your text is kept.`;
    }, 1000);
  }

  #draw() {
    const dialogue = document.getElementById("dialogue");
    if (!dialogue) return;
    dialogue.replaceChildren(...this.answers.dialogue.map(({ role, text }) => {
      const turn = document.createElement("div");
      const who = document.createElement("h3");
      const words = document.createElement("p");
      turn.className = `turn ${role}`;
      who.className = "who";
      who.textContent = role === "user" ? "You" : "Model";
      words.className = "prose pre";
      words.textContent = text;
      words.dir = "auto";
      turn.append(who, words);
      return turn;
    }));
    dialogue.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
}
