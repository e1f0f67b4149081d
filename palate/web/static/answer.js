// The answer form: what is chosen, whether it is complete, and the answer as the server takes it.
import { Ranking } from "./ranking.js";

const PAIR = { 1: [[0], [1]], 2: [[1], [0]], "=": [[0, 1]] };

export class AnswerForm {
  constructor(form, task, { changed, say }) {
    this.form = form;
    this.task = task;
    this.axes = [...form.querySelectorAll(".axis[data-axis]")];
    this.changed = () => { this.#mark(); changed(); };
    const board = form.querySelector(".board");
    this.ranking = board && new Ranking(board, { ties: task.ties, changed: () => { if (this.ranking.tiers.length) this.#clearAllBad(); this.changed(); }, say });
    form.addEventListener("input", this.changed);
  }

  // A new item: `state` is a draft of it, or null.
  reset(item, state) {
    this.item = item;
    this.form.reset();
    const text = this.form.elements.text;
    if (text) text.value = item.querySelector("[data-original]")?.textContent ?? "";
    for (const [name, value] of Object.entries(state?.fields ?? {})) {
      const field = this.form.elements.namedItem(name);
      if (field) field.value = value;
    }
    this.flag = state?.flag ?? "";
    this.dialogue = state?.dialogue ?? [];
    this.ranking?.reset(Number(item.dataset.places), state?.ranking);
    this.axisNow = 0;
    this.#mark();
  }

  get state() {
    const fields = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value !== ""));
    return { fields, flag: this.flag, dialogue: this.dialogue, ranking: this.ranking?.state };
  }

  value(name) { return new FormData(this.form).get(name) ?? ""; }

  get isAllBad() { return this.value("axis-0") === "0"; }

  // Keys 1 to 9, 0, =, Backspace, q, w, e. True when something was done with it.
  key(word) {
    if ("qwe".includes(word)) return this.#pick("strength", { q: "1", w: "2", e: "3" }[word]);
    if (this.ranking && word !== "0") return this.ranking.key(word);
    const now = this.axes[this.axisNow];
    if (!now || !this.#pick(now.dataset.axis, word)) return false;
    if (this.axisNow < this.axes.length - 1) this.axisNow += 1;
    this.#mark();
    return true;
  }

  // The axis that the next number key answers.
  moveTo(axis) { this.axisNow = Math.max(0, this.axes.findIndex((one) => one.dataset.axis === axis)); this.#mark(); }

  #pick(name, value) {
    const radio = [...this.form.querySelectorAll(`input[type="radio"]`)].find((one) => one.name === name && one.value === value && !one.disabled);
    if (!radio) return false;
    radio.checked = !(radio.checked && name === "strength");
    this.changed();
    return true;
  }

  #clearAllBad() { for (const radio of this.form.querySelectorAll('input[name="axis-0"]')) radio.checked = false; }

  #mark() {
    const first = this.value("axis-0");
    const level = first === "=" || first === "0" || first === "";
    for (const radio of this.form.querySelectorAll('input[name="strength"]')) { radio.disabled = level; if (level) radio.checked = false; }
    this.axes.forEach((axis, index) => axis.classList.toggle("now", this.axes.length > 1 && index === this.axisNow));
    if (this.ranking && first === "0" && this.ranking.tiers.length) { this.ranking.reset(this.ranking.places); }
    for (const card of this.item?.querySelectorAll(".answer") ?? []) {
      const place = Number(card.dataset.place);
      const tier = this.ranking ? this.ranking.tiers.findIndex((one) => one.includes(place)) : -1;
      const isPair = this.task.kind === "compare";
      card.classList.toggle("chosen", isPair ? first === String(place + 1) : tier === 0);
      card.classList.toggle("level", isPair ? first === "=" : tier > 0);
      card.classList.toggle("rejected", first === "0");
      const badge = card.querySelector(".badge");
      if (isPair) badge.textContent = first === String(place + 1) ? "Better" : first === "=" ? "Level" : first === "0" ? "Bad" : "";
      else if (this.ranking) badge.textContent = first === "0" ? "Bad" : tier >= 0 ? `Rank ${tier + 1}` : "";
    }
  }

  // What is still missing, in words; "" when the answer can be sent.
  get missing() {
    const { kind, reason } = this.task;
    if (kind === "compare" || kind === "rank") {
      if (kind === "rank" && !this.isAllBad && !this.ranking.isComplete) return "Rank every completion first: press their numbers, best first.";
      const open = this.axes.filter((axis) => axis.dataset.needed === "yes" && !this.isAllBad).find((axis) => !this.value(axis.dataset.axis));
      if (open) return this.axes.length > 1 ? `Choose for \u201c${open.dataset.name}\u201d first.` : "Choose first: 1, 2, = or 0.";
      if (this.task.strength && kind === "compare" && "12".includes(this.value("axis-0")) && !this.value("strength")) return "How much better? Press q, w or e.";
    }
    if ((kind === "rule" || kind === "probe") && !this.value("axis-0")) return "Choose first: 1 or 2.";
    if (kind === "probe" && !this.dialogue.length) return "Write to the model first.";
    if (kind === "write" && !this.value("text").trim()) return "Write the answer first.";
    if (reason === "required" && !this.value("reason").trim()) return "Give a reason first: press r.";
    return "";
  }

  answer(seconds) {
    const { kind } = this.task;
    const answer = { seconds, reason: this.value("reason").trim(), flag: this.flag };
    if (kind === "compare" || kind === "rank") {
      answer.all_bad = this.isAllBad;
      if (!answer.all_bad) {
        answer.ranking = kind === "rank" ? this.ranking.tiers : PAIR[this.value("axis-0")];
        answer.axes = Object.fromEntries(this.axes.slice(1).filter((axis) => axis.dataset.name).map((axis) => [axis.dataset.name, PAIR[this.value(axis.dataset.axis)]]));
        if (this.value("strength")) answer.strength = Number(this.value("strength"));
      }
    }
    if (kind === "rule" || kind === "probe") { answer.broken = this.value("axis-0") === "1"; answer.rule = this.item.dataset.rule ?? ""; }
    if (kind === "probe") answer.dialogue = this.dialogue;
    if (kind === "write") answer.text = this.value("text");
    return answer;
  }
}
