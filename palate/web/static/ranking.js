// The board on which several completions are ranked: by keys, by arrows on a chip, or by dragging.
// The keys are numbers for the first nine and letters for the others (PLACES).
// State: `tiers`, best first, each a list of places from 0, and `tray`, the places that are not ranked yet.
import { PLACES, meaning } from "./keys.js";

export class Ranking {
  constructor(board, { ties, name, changed, say }) {
    this.board = board;
    this.ties = ties;
    this.name = name; // of the dimension; "" if there is only one
    this.changed = changed;
    this.say = say;
    this.reset(0);
    board.addEventListener("pointerdown", (event) => this.#grab(event));
    board.addEventListener("keydown", (event) => this.#arrow(event));
    board.addEventListener("click", (event) => { // by the space bar; pointers are handled above
      const chip = event.target.closest(".chipbutton");
      if (chip && event.detail === 0) this.#press(Number(chip.dataset.place));
    });
  }

  reset(places, state = null) {
    this.places = places;
    this.joining = false;
    const all = Array.from({ length: places }, (_, place) => place);
    const kept = state?.tiers?.flat() ?? [];
    const fits = kept.every((place) => all.includes(place)) && new Set(kept).size === kept.length;
    this.tiers = fits && state ? state.tiers.map((tier) => [...tier]) : [];
    this.tray = all.filter((place) => !this.tiers.flat().includes(place));
    this.draw();
  }

  get isComplete() { return this.places > 0 && this.tray.length === 0; }
  get state() { return { tiers: this.tiers }; }

  key(word) {
    if (word === "Backspace") return this.#back();
    if (word === "=") { if (this.ties && this.tiers.length) { this.joining = true; this.draw(); } return true; }
    const place = PLACES.indexOf(word);
    if (!(place >= 0 && place < this.places)) return false;
    this.#press(place);
    return true;
  }

  #press(place) {
    if (!this.tray.includes(place)) { this.#take(place); this.tray.push(place); this.tray.sort((a, b) => a - b); }
    else this.#put(place, this.joining ? { tier: this.tiers.length - 1 } : { gap: this.tiers.length });
    this.joining = false;
    this.#done();
  }

  #back() {
    const last = this.tiers.at(-1);
    if (!last) return true;
    this.tray.push(last.pop());
    this.tray.sort((a, b) => a - b);
    this.tiers = this.tiers.filter((tier) => tier.length);
    this.#done();
    return true;
  }

  #take(place) {
    this.tray = this.tray.filter((other) => other !== place);
    for (const tier of this.tiers) if (tier.includes(place)) tier.splice(tier.indexOf(place), 1); // in place, because `#put` holds its target
    const emptied = this.tiers.findIndex((tier) => !tier.length);
    this.tiers = this.tiers.filter((tier) => tier.length);
    return emptied;
  }

  #put(place, where) {
    if (where.tray) { this.#take(place); this.tray.push(place); this.tray.sort((a, b) => a - b); return; }
    const target = where.tier !== undefined ? this.tiers[where.tier] : null;
    if (target?.includes(place)) return;
    const emptied = this.#take(place);
    if (target) { target.push(place); target.sort((a, b) => a - b); if (!this.tiers.includes(target)) this.tiers.push(target); return; }
    const gap = emptied >= 0 && emptied < where.gap ? where.gap - 1 : where.gap;
    this.tiers.splice(gap, 0, [place]);
  }

  #arrow(event) {
    const chip = event.target.closest(".chipbutton");
    const word = meaning(event);
    if (!chip || !["ArrowLeft", "ArrowRight", "="].includes(word)) return;
    event.preventDefault();
    event.stopPropagation();
    const place = Number(chip.dataset.place);
    const at = this.tiers.findIndex((tier) => tier.includes(place));
    if (word === "=") { if (this.ties && at > 0 && this.tiers[at].length === 1) this.#put(place, { tier: at - 1 }); }
    else if (at < 0) this.#put(place, { gap: word === "ArrowLeft" ? 0 : this.tiers.length });
    else if (this.tiers[at].length > 1) this.#put(place, { gap: word === "ArrowLeft" ? at : at + 1 });
    else this.#put(place, { gap: word === "ArrowLeft" ? Math.max(0, at - 1) : Math.min(this.tiers.length, at + 2) });
    this.#done();
    this.board.querySelector(`[data-place="${place}"]`)?.focus();
  }

  #grab(event) {
    const chip = event.target.closest(".chipbutton");
    if (!chip || event.button) return;
    const place = Number(chip.dataset.place);
    const from = { x: event.clientX, y: event.clientY };
    let ghost = null;
    const under = (x, y) => {
      const target = document.elementFromPoint(x, y)?.closest(".tier, .gap, .tray, .tiers");
      return target && this.board.contains(target) ? target : null; // another dimension has other chips
    };
    const clear = () => this.board.querySelectorAll(".over").forEach((one) => one.classList.remove("over"));
    const move = (now) => {
      if (!ghost && Math.hypot(now.clientX - from.x, now.clientY - from.y) < 5) return;
      if (!ghost) { ghost = chip.cloneNode(true); ghost.classList.add("ghost"); document.body.append(ghost); chip.classList.add("held"); }
      ghost.style.transform = `translate(${now.clientX - 23}px, ${now.clientY - 23}px)`;
      clear();
      under(now.clientX, now.clientY)?.classList.add("over");
    };
    const end = (now) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      clear();
      chip.classList.remove("held");
      const wasDragged = ghost !== null;
      ghost?.remove();
      if (now.type === "pointercancel") return;
      if (!wasDragged) { this.#press(place); return; }
      const target = under(now.clientX, now.clientY);
      if (!target) return;
      if (target.classList.contains("tray")) this.#put(place, { tray: true });
      else if (target.dataset.tier !== undefined && this.ties) this.#put(place, { tier: Number(target.dataset.tier) });
      else this.#put(place, { gap: target.dataset.gap !== undefined ? Number(target.dataset.gap) : this.tiers.length });
      this.#done();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  #done() {
    this.draw();
    const words = this.tiers.map((tier) => tier.map((place) => place + 1).join(" level with "));
    const on = this.name ? `${this.name}: ` : "";
    this.say(words.length ? `${on}Best first: ${words.join(", then ")}${this.tray.length ? `; ${this.tray.length} to go` : ""}` : `${on}Nothing ranked`);
    this.changed();
  }

  draw() {
    const chip = (place) => {
      const one = document.createElement("button");
      one.type = "button";
      one.className = "chipbutton";
      one.dataset.place = place;
      const key = PLACES[place] ?? "";
      one.textContent = place + 1;
      if (place > 8 && key) { const sign = document.createElement("kbd"); sign.textContent = key; one.append(sign); }
      one.setAttribute("aria-label", `Completion ${place + 1}${this.name ? ` for ${this.name}` : ""}: ${key ? `press ${key}` : "press here"}, or move it with the arrow keys`);
      return one;
    };
    const box = (name, children = []) => { const one = document.createElement("div"); one.className = name; one.append(...children); return one; };
    const tray = box("tray", this.tray.map(chip));
    tray.setAttribute("aria-label", `Not ranked yet${this.name ? ` for ${this.name}` : ""}`);
    tray.setAttribute("role", "group");
    const tiers = box("tiers");
    tiers.setAttribute("aria-label", `Ranking${this.name ? ` for ${this.name}` : ""}, best first`);
    tiers.setAttribute("role", "group");
    const word = (text) => { const one = document.createElement("span"); one.className = "end"; one.textContent = text; return one; };
    tiers.append(word(this.tiers.length ? "Best" : this.places > 9 ? "Best first: press 1 to 9 and the letters in order, or drag" : "Best first: press the numbers in order, or drag"));
    this.tiers.forEach((tier, index) => {
      const gap = box("gap");
      gap.dataset.gap = index;
      if (index) gap.textContent = "\u203a";
      const held = box("tier", tier.map(chip));
      held.dataset.tier = index;
      if (this.joining && index === this.tiers.length - 1) held.classList.add("over");
      tiers.append(gap, held);
    });
    const last = box("gap");
    last.dataset.gap = this.tiers.length;
    tiers.append(last);
    if (this.isComplete) tiers.append(word("Worst"));
    this.board.replaceChildren(...(this.tray.length || !this.places ? [tray, tiers] : [tiers, tray]));
    tray.hidden = false;
  }
}
