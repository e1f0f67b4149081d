// The answer form: the choices, what is missing, and the answer as the server takes it.
import { Ranking } from "./ranking.js";

// Names of dimensions come from the task as JSON and by their place, because HTML changes line ends in an attribute.
const PAIR = { 1: [[0], [1]], 2: [[1], [0]], "=": [[0, 1]] };
const GRADES = { 1: "met", 2: "unmet", 3: "unsure" };

// Characters beyond the limit of a field, counted as the server counts them.
export function excess(field) { return [...field.value].length - Number(field.dataset.limit); }

export class AnswerForm {
  constructor(form, task, { changed, say }) {
    this.form = form;
    this.task = task;
    this.dimensions = [...form.querySelectorAll(".dimension[data-dimension]")];
    this.changed = () => { this.#mark(); changed(); };
    const boards = [...form.querySelectorAll(".board")];
    this.rankings = boards.map((board, index) => new Ranking(board, {
      ties: task.ties, name: boards.length > 1 ? board.dataset.name : "", changed: () => this.#ranked(index), say,
    }));
    form.addEventListener("input", this.changed);
  }

  // Show a new item. `state` is its draft, or null.
  reset(item, state) {
    this.item = item;
    this.#askCriteria();
    this.form.reset();
    const text = this.form.elements.text;
    if (text) text.value = item.querySelector("[data-original]")?.textContent ?? "";
    for (const [name, value] of Object.entries(state?.fields ?? {})) {
      const field = this.form.elements.namedItem(name);
      if (field) field.value = value;
    }
    this.flag = state?.flag ?? "";
    this.dialogue = state?.dialogue ?? [];
    this.rankings.forEach((one, index) => one.reset(Number(item.dataset.places), state?.rankings?.[index]));
    this.currentDimension = 0;
    this.currentBoard = Math.max(0, this.rankings.findIndex((one) => !one.isComplete));
    this.#mark();
  }

  // The criteria of a rubric differ from item to item, so each item brings its own.
  #askCriteria() {
    const criteria = this.item.querySelector("template.criteria");
    if (!criteria) return;
    this.form.querySelector("#criteria").replaceChildren(criteria.content.cloneNode(true));
    this.dimensions = [...this.form.querySelectorAll(".dimension[data-dimension]")];
  }

  get state() {
    const fields = Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value !== ""));
    return { fields, flag: this.flag, dialogue: this.dialogue, rankings: this.rankings.map((one) => one.state) };
  }

  value(name) { return new FormData(this.form).get(name) ?? ""; }

  get isAllBad() { return this.value("dimension-0") === "0"; }

  // Handle keys 1 to 9, 0, =, Backspace, q, w, e, and in a ranking the letters of further places. Returns whether the key did something.
  key(word) {
    if ("qwe".includes(word) && !this.rankings.length) return this.#pick("strength", { q: "1", w: "2", e: "3" }[word]);
    if (this.rankings.length && word !== "0") return this.#rankKey(word);
    if (word === "Backspace") return this.#back();
    const dimension = this.dimensions[this.currentDimension];
    if (!dimension || !this.#pick(dimension.dataset.dimension, word)) return false;
    if (this.currentDimension < this.dimensions.length - 1) this.currentDimension += 1;
    this.#mark();
    this.dimensions[this.currentDimension].scrollIntoView({ block: "nearest" });
    return true;
  }

  // The next number key answers the dimension that was clicked or has the focus.
  moveTo(target) {
    const dimension = target.closest(".dimension[data-dimension]");
    const board = this.rankings.findIndex((one) => one.board.contains(target));
    if (dimension) this.currentDimension = Math.max(0, this.dimensions.indexOf(dimension));
    if (board >= 0) this.currentBoard = board;
    this.#mark();
  }

  // On an empty board Backspace goes back to the previous dimension.
  #rankKey(word) {
    if (word === "Backspace" && !this.rankings[this.currentBoard].tiers.length && this.currentBoard) { this.currentBoard -= 1; this.#mark(); return true; }
    return this.rankings[this.currentBoard].key(word);
  }

  // Clear the choice on the current dimension, or go back to the previous one.
  #back() {
    if (this.dimensions.length < 2) return false;
    const chosen = (dimension) => [...dimension.querySelectorAll("input")].find((radio) => radio.checked);
    if (!chosen(this.dimensions[this.currentDimension]) && this.currentDimension) this.currentDimension -= 1;
    const radio = chosen(this.dimensions[this.currentDimension]);
    if (radio) radio.checked = false;
    this.changed();
    return true;
  }

  // When a dimension is ranked, the keys go on to the next one that is not.
  #ranked(index) {
    if (this.rankings[index].tiers.length) this.#clearAllBad();
    const open = [...this.rankings.keys()].filter((one) => !this.rankings[one].isComplete);
    this.currentBoard = this.rankings[index].isComplete && open.length ? open.find((one) => one > index) ?? open[0] : index;
    this.changed();
  }

  #pick(name, value) {
    const radio = [...this.form.querySelectorAll(`input[type="radio"]`)].find((one) => one.name === name && one.value === value && !one.disabled);
    if (!radio) return false;
    radio.checked = !(radio.checked && name === "strength");
    this.changed();
    return true;
  }

  #tiersOf(index) { return this.task.kind === "rank" ? this.rankings[index].tiers : PAIR[this.value(`dimension-${index}`)]; }

  #clearAllBad() { for (const radio of this.form.querySelectorAll('input[name="dimension-0"]')) radio.checked = false; }

  #mark() {
    const first = this.value("dimension-0");
    const level = first === "=" || first === "0" || first === "";
    for (const radio of this.form.querySelectorAll('input[name="strength"]')) { radio.disabled = level; if (level) radio.checked = false; }
    this.dimensions.forEach((dimension, index) => dimension.classList.toggle("now", this.dimensions.length > 1 && index === this.currentDimension));
    if (first === "0") for (const one of this.rankings) if (one.tiers.length) one.reset(one.places);
    const ranking = this.rankings[this.currentBoard ?? 0];
    this.rankings.forEach((one) => one.board.closest(".ranked")?.classList.toggle("now", one === ranking && first !== "0"));
    for (const card of this.item?.querySelectorAll(".answer") ?? []) {
      const place = Number(card.dataset.place);
      const tier = ranking ? ranking.tiers.findIndex((one) => one.includes(place)) : -1;
      const isPair = this.task.kind === "compare";
      card.classList.toggle("chosen", isPair ? first === String(place + 1) : tier === 0);
      card.classList.toggle("level", isPair ? first === "=" : tier > 0);
      card.classList.toggle("rejected", first === "0");
      const badge = card.querySelector(".badge");
      if (isPair) badge.textContent = first === String(place + 1) ? "Better" : first === "=" ? "Level" : first === "0" ? "Bad" : "";
      else if (ranking) badge.textContent = first === "0" ? "Bad" : tier >= 0 ? `Rank ${tier + 1}` : "";
    }
  }

  // What is still missing, in words; "" if the answer can be sent.
  get missing() {
    const { kind, reason } = this.task;
    if (kind === "compare" || kind === "rank") {
      const unranked = this.isAllBad ? undefined : this.rankings.find((one) => !one.isComplete);
      if (unranked) return `Rank every completion${unranked.name ? ` for \u201c${unranked.name}\u201d` : ""} first: press their ${unranked.places > 9 ? "keys" : "numbers"}, best first.`;
      const open = this.dimensions.filter((dimension) => dimension.dataset.needed === "yes" && !this.isAllBad).find((dimension) => !this.value(dimension.dataset.dimension));
      if (open) return this.dimensions.length > 1 ? `Choose for \u201c${open.dataset.name}\u201d first.` : "Choose first: 1, 2, = or 0.";
      if (this.task.strength && kind === "compare" && "12".includes(this.value("dimension-0")) && !this.value("strength")) return "How much better? Press q, w or e.";
    }
    if (kind === "rubric") {
      const open = this.dimensions.filter((dimension) => !this.value(dimension.dataset.dimension)).length;
      if (open) return `${open === 1 ? "1 criterion is" : `${open} criteria are`} still open: press 1, 2 or 3.`;
    }
    if ((kind === "rule" || kind === "probe") && !this.value("dimension-0")) return "Choose first: 1 or 2.";
    if (kind === "probe" && !this.dialogue.length) return "Write to the model first.";
    if (kind === "write" && !this.value("text").trim()) return "Write the answer first.";
    const long = this.tooLong;
    if (long) return long;
    if (reason === "required" && !this.value("reason").trim()) return "Give a reason first: press r.";
    return "";
  }

  // Which field is longer than the server takes, in words; "" if none is. The fields are not cut, because a cut paste would go unnoticed.
  get tooLong() {
    for (const field of this.form.querySelectorAll("[data-limit]:not(#message)")) {
      const surplus = excess(field);
      if (surplus > 0) return `${field.dataset.what} can have ${Number(field.dataset.limit).toLocaleString("en")} characters. Shorten it by ${surplus.toLocaleString("en")}.`;
    }
    return "";
  }

  answer(seconds) {
    const { kind } = this.task;
    const answer = { seconds, reason: this.value("reason").trim(), flag: this.flag };
    if (kind === "compare" || kind === "rank") {
      answer.all_bad = this.isAllBad;
      if (!answer.all_bad) {
        answer.ranking = kind === "rank" ? this.rankings[0].tiers : PAIR[this.value("dimension-0")];
        answer.dimensions = Object.fromEntries(this.task.dimensions.slice(1).map((name, index) => [name, this.#tiersOf(index + 1)]));
        if (this.value("strength")) answer.strength = Number(this.value("strength"));
      }
    }
    if (kind === "rule" || kind === "probe") answer.broken = this.value("dimension-0") === "1"; // the server knows the item's rule
    if (kind === "rubric") answer.grades = Object.fromEntries(this.dimensions.map((one) => [one.dataset.name, GRADES[this.value(one.dataset.dimension)]]));
    if (kind === "probe") answer.dialogue = this.dialogue;
    if (kind === "write") answer.text = this.value("text");
    return answer;
  }
}
