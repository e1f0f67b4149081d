// How the texts of an item are shown: formatted or as written, side by side or stacked, and with their differences marked.
import { copyText } from "./copying.js";
import { markDifferences } from "./differences.js";
import { read, write } from "./storage.js";

const STORED = "palate:views";
const KEYS = { m: "source", l: "stacked", d: "differences" };

export class Views {
  constructor(root, say) {
    this.root = root;
    this.say = say;
    this.on = { source: false, stacked: false, differences: false, ...read(STORED) };
    root.addEventListener("click", (event) => {
      const view = event.target.closest("[data-view]");
      const copy = event.target.closest("[data-copytext]");
      if (view) this.toggle(view.dataset.view);
      if (copy) this.#copy(copy);
    });
  }

  // Show an item in the chosen views. Texts that look alike when they are formatted come as written from the server.
  show(item) {
    this.item = item;
    this.isAlike = item.classList.contains("aswritten") && !this.on.source;
    this.#draw();
  }

  // Handle a key. Returns whether it means a view that this item has.
  key(word) {
    const name = KEYS[word];
    if (!name || !this.item?.querySelector(`[data-view="${name}"]`)) return false;
    this.toggle(name);
    return true;
  }

  toggle(name) {
    const isOn = name === "source" && this.isAlike ? false : !this.on[name];
    if (name === "source") this.isAlike = false;
    this.on[name] = isOn;
    write(STORED, this.on);
    this.#draw();
    this.say(`${this.item.querySelector(`[data-view="${name}"]`).lastChild.textContent.trim()}: ${isOn ? "on" : "off"}. ${this.summary}`);
  }

  #draw() {
    const has = (name) => this.item.querySelector(`[data-view="${name}"]`) !== null;
    const isMarked = this.on.differences && has("differences");
    this.item.classList.toggle("aswritten", this.on.source || this.isAlike);
    this.item.classList.toggle("stacked", this.on.stacked && has("stacked"));
    this.item.classList.toggle("compared", isMarked);
    for (const button of this.item.querySelectorAll("[data-view]")) {
      const { view } = button.dataset;
      button.setAttribute("aria-pressed", String(view === "source" ? this.on.source || this.isAlike : this.on[view]));
    }
    const texts = [...this.item.querySelectorAll(".answer .source")];
    this.summary = isMarked ? markDifferences(texts) : "";
    if (this.item.querySelector(".summary")) this.item.querySelector(".summary").textContent = this.summary;
  }

  async #copy(button) {
    const isCopied = await copyText(button.closest(".answer").querySelector(".source").textContent);
    button.textContent = isCopied ? "Copied" : "Press m and select";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }
}
