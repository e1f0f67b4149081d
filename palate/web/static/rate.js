// The page on which people judge. It shows an item, takes the answer, shows the next item while the answer travels, and fetches one more.
import { AnswerForm } from "./answer.js";
import { Api } from "./api.js";
import { checkMedia, playClips, watchMedia } from "./clips.js";
import { PLACES, meaning } from "./keys.js";
import { Outbox } from "./outbox.js";
import { fitPanes } from "./panes.js";
import { Probe } from "./probe.js";
import { Stopwatch } from "./stopwatch.js";
import { SURPLUS, Strip } from "./strip.js";
import { read, remove, secret, write } from "./storage.js";
import { Views } from "./views.js";

const BREAK_AFTER_SECONDS = 45 * 60;
const CORRECTABLE = [409, 413, 422]; // statuses of an answer that can be changed and sent again
const desk = document.getElementById("desk");
const { account, csrf, project } = desk.dataset;
const guideline = Number(desk.dataset.guideline);
const task = JSON.parse(desk.dataset.task);
const find = (id) => document.getElementById(id);
const [sheet, form, live, hint, curtain, aside] = ["sheet", "verdict", "live", "hint", "curtain", "guidelines"].map(find);
const clock = new Stopwatch();
const views = new Views(sheet, (text) => say(text));
const api = new Api(account, csrf);
const draftName = (assignment) => `palate:draft:${account}:${assignment}`;

let current = null; // {id, item (element), key, expiresAt, undone}
let queue = []; // next items: {id, html, remaining, at}
let last = null; // {id, state}: how the previous answer was filled in, to show it again after an undo
let undoKey = null; // key of an undo on its way; it stays the same until the server has answered
const skipped = new Set(); // assignments skipped on this page
const leaving = new Map(); // items whose answers are on their way, by assignment, to show them again if the server refuses
const refusals = new Map(); // why the answer to an assignment was refused
let undoing = false;
let fetching = null;
let isEmpty = false; // the server has nothing left for this rater
let judged = Number(desk.dataset.judged);
const total = Number(desk.dataset.total ?? 0); // 0: others judge too, and nobody knows how many items are left for this person
const openedAt = performance.now();
let sentHere = 0;

const say = (text) => { live.textContent = text; };
const line = new Strip(find("strip"));
const notify = (text, kind) => line.show(text, kind);
const answers = new AnswerForm(form, task, { changed: keepDraft, say });
const probe = find("talkbox") && new Probe(find("talkbox"), { api, project, answers, changed: keepDraft, say });
const outbox = new Outbox(account, api, {
  sent(entry, receipt) {
    remove(draftName(entry.body.assignment));
    leaving.delete(entry.body.assignment);
    refusals.delete(entry.body.assignment);
    if (entry.project === project && !queue.length) queue = fresh(receipt.assignments);
    if (receipt.status === "kept" && !entry.body.answer.skipped) { judged += 1; sentHere += 1; }
    pace();
    if (receipt.status === "surplus") notify(SURPLUS[receipt.cause] ?? SURPLUS.taken);
    else if (!outbox.entries.length) notify(standing());
  },
  held: (entry) => (entry.project === project ? [current, ...queue].filter((one) => one && !outbox.has(one.id)).map((one) => one.id) : undefined),
  waiting(count, reason) { notify(`${reason}. ${count === 1 ? "1 answer is" : `${count} answers are`} kept on this device and will be sent when the connection works again.`); },
  refused,
  signedOut: (count) => line.signedOut(count),
});

function keepDraft() {
  hint.textContent = answers.tooLong;
  hint.classList.toggle("bad", Boolean(answers.tooLong));
  if (current) write(draftName(current.id), { key: current.key, seconds: clock.seconds, ...answers.state });
}

function show(id, item, remaining, state = null) {
  const draft = state ?? read(draftName(id));
  current = { id, item, key: draft?.key ?? secret(), expiresAt: performance.now() + remaining * 1000 };
  if (item.parentElement !== sheet) { item.classList.add("entering"); sheet.replaceChildren(item); }
  form.hidden = false;
  checkMedia(item);
  find("play").hidden = !item.querySelector("video");
  clock.restart(draft?.seconds ?? 0);
  answers.reset(item, draft);
  views.show(item);
  probe?.show(id);
  flagShown();
  sheet.scrollTop = 0;
  scrollTo(0, 0); // in a low window the page scrolls as a whole
  if (!curtain.open) sheet.focus({ preventScroll: true });
  hint.textContent = answers.tooLong;
  hint.classList.toggle("bad", Boolean(answers.tooLong));
  say(`${item.querySelector(".asked")?.textContent ?? "New item"}`);
  breakHint();
  if (standing()) notify(standing());
  more();
}

// What the line says for as long as this item is shown.
function standing() {
  if (refusals.has(current?.id)) return `Your answer to this item was refused. ${refusals.get(current.id)} Change it and send it again.`;
  return skipped.has(current?.id) ? "Nothing else is left. This is one that you skipped." : "";
}

function parsed(html) {
  return document.importNode(new DOMParser().parseFromString(html, "text/html").querySelector("article.item"), true);
}

async function next() {
  current = null;
  form.hidden = true;
  while (queue.length) {
    const one = queue.shift();
    const remaining = one.remaining - (performance.now() - one.at) / 1000;
    if (one.guideline > guideline) { renew(); return; }
    if ((remaining > 0 || refusals.has(one.id)) && !outbox.has(one.id)) { show(one.id, parsed(one.html), remaining, one.state); return; }
  }
  sheet.replaceChildren(find("loading").content.cloneNode(true));
  await more();
  if (current) return;
  if (queue.length) { await next(); return; }
  if (isEmpty && !outbox.entries.length) {
    sheet.replaceChildren(find("nothing").content.cloneNode(true));
    if (desk.dataset.after) location.assign(desk.dataset.after);
  }
  else setTimeout(() => { if (!current) next(); }, 2000);
}

// The guidelines have changed, and nobody should judge by the old ones. The page reloads with the new ones and this item.
async function renew() {
  sheet.replaceChildren(find("loading").content.cloneNode(true));
  await outbox.drain();
  if (outbox.entries.length) setTimeout(renew, 2000); else location.reload();
}

function more() {
  fetching ??= fetchMore().finally(() => { fetching = null; });
  return fetching;
}

async function fetchMore() {
  isEmpty = false;
  await outbox.drain();
  if (outbox.entries.length || queue.length) return;
  const { status, data } = await api.post(`/api/projects/${project}/assignments`, { held: current ? [current.id] : [] });
  if (status !== 200) {
    if (status === 401) outbox.events.signedOut(0);
    else if (!current) notify(data?.detail ?? "No connection. Trying again.");
    return;
  }
  isEmpty = data.assignments.length === 0;
  queue = fresh(data.assignments);
}

function fresh(assignments) {
  const at = performance.now();
  return assignments.filter((one) => one.id !== current?.id && !outbox.has(one.id)).map((one) => ({ ...one, at }));
}

// The draft stays on the device until the server has confirmed the answer.
function send(answer) {
  keepDraft();
  last = { id: current.id, state: answers.state };
  leaving.set(current.id, asQueued(current));
  outbox.put(project, { assignment: current.id, key: current.key, answer, guideline });
  next();
}

function asQueued(one) {
  const state = { key: one.key, seconds: clock.seconds, ...answers.state };
  return { id: one.id, html: one.item.outerHTML, remaining: (one.expiresAt - performance.now()) / 1000, at: performance.now(), state };
}

// The draft brings the answer back with its item: on this page, or when the server gives the item to this person again.
function refused(entry, status, message) {
  const { assignment } = entry.body;
  const again = leaving.get(assignment);
  leaving.delete(assignment);
  refusals.set(assignment, message);
  if (!again || !CORRECTABLE.includes(status)) notify(`An answer was refused. ${message} What you wrote is kept on this device.`);
  else {
    queue.unshift(again);
    if (current) notify(`An answer was refused. ${message} It is kept, and its item comes back after this one.`);
    else next();
  }
  line.offerCopy(entry.body.answer);
}

function submit() {
  if (!current) return;
  const missing = answers.missing;
  if (missing) { hint.textContent = missing; hint.classList.add("bad"); say(missing); return; }
  send(answers.answer(clock.seconds));
}

function skip() {
  if (!current) return;
  skipped.add(current.id);
  send({ skipped: true, flag: answers.flag, reason: answers.value("reason").trim(), seconds: clock.seconds });
}

async function undo() {
  if (undoing) return;
  undoing = true;
  await takeBack().finally(() => { undoing = false; });
}

async function takeBack() {
  await outbox.drain();
  if (outbox.entries.length) { notify("The answers on this device must be sent before you can take one back."); return; }
  undoKey ??= secret();
  const { status, data } = await api.post(`/api/projects/${project}/undo`, { key: undoKey });
  if (status === 0 || status >= 500) { notify("The server did not answer. Press u again. Only one answer is taken back."); return; }
  undoKey = null;
  if (status !== 200) { notify(data?.detail ?? "No answer was taken back."); return; }
  sentHere = Math.max(0, sentHere - Math.max(0, judged - data.judged));
  judged = data.judged;
  pace();
  if (current && current.id !== data.id) { keepDraft(); queue.unshift(asQueued(current)); }
  const state = last?.id === data.id ? { ...last.state, key: secret() } : { key: secret(), fields: {} };
  last = null;
  show(data.id, parsed(data.html), data.remaining, state);
  notify("Taken back. Answer again.", "good");
}

function flagShown() {
  const button = find("flag");
  button.setAttribute("aria-pressed", String(Boolean(answers.flag)));
  button.querySelector(".word").textContent = answers.flag ? "Flagged" : "Flag";
}

const flagDialog = find("flagdialog");
function flag() { if (current && !find("flag").hidden) { flagDialog.returnValue = ""; flagDialog.showModal(); } }
flagDialog.addEventListener("close", () => {
  if (!["skip", "stay"].includes(flagDialog.returnValue)) return;
  const fields = new FormData(flagDialog.querySelector("form"));
  answers.flag = [fields.get("why"), fields.get("note").trim()].filter(Boolean).join(": ");
  flagDialog.querySelector("form").reset();
  flagShown();
  keepDraft();
  if (flagDialog.returnValue === "skip") skip();
});

function guide() {
  const shown = !desk.classList.toggle("guided");
  aside.hidden = shown;
  write("palate:guided", !shown);
  find("guide").setAttribute("aria-expanded", String(!shown));
}

function pause() {
  for (const clip of sheet.querySelectorAll("video")) clip.pause();
  clock.stop();
  clock.rested();
  curtain.querySelector("h2").textContent = "A break";
  curtain.querySelector(".words").textContent = "The item is covered and the clock has stopped. Your draft is kept. The item is held for you until its time runs out.";
  curtain.querySelector(".goon").textContent = "Continue";
  curtain.showModal();
}
curtain.addEventListener("close", () => { clock.go(); sheet.focus({ preventScroll: true }); write(`palate:warned:${account}:${project}`, desk.dataset.guideline); });
curtain.addEventListener("cancel", (event) => { if (curtain.dataset.first) event.preventDefault(); });

function breakHint() {
  if (clock.worked > BREAK_AFTER_SECONDS) notify("You have judged for 45 minutes. A short break keeps your judgments good. Press p.");
}

function pace() {
  const minutes = (performance.now() - openedAt) / 60000;
  find("pace").textContent = total ? `${Math.min(judged + 1, total)} of ${total}` : `${judged} judged`;
  find("speed").textContent = sentHere > 2 && !total ? `${(sentHere / minutes).toFixed(1)} per minute` : "";
}

setInterval(() => {
  if (current && performance.now() > current.expiresAt && !current.isExpiryShown) {
    current.isExpiryShown = true;
    notify("The time for this item has run out. You can still answer. Your answer counts unless somebody else has the item by now.");
  }
}, 1000);

const acts = { s: skip, f: flag, u: undo, g: guide, p: pause, v: () => playClips(sheet), r: () => form.elements.reason?.focus(), Enter: submit };
// People who reach a clip by Tab use the clip's controls, where Enter presses a button. People who click on it go on with the keys.
let hasTabbed = false;
document.addEventListener("pointerdown", () => { hasTabbed = false; }, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Tab") hasTabbed = true;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && isField(event.target)) { event.target.blur(); sheet.focus({ preventScroll: true }); return; }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); submit(); return; }
  const word = meaning(event);
  if (!word) return;
  if (word === "Enter" && event.target.closest(hasTabbed ? "button, a, summary, video" : "button, a, summary")) return;
  if (!current && !["u", "g", "p"].includes(word)) return;
  if (acts[word] ? (acts[word](), true) : (current && views.key(word)) || answers.key(word)) event.preventDefault();
});
function isField(target) { return target instanceof HTMLTextAreaElement; }

form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
// After a touch the browser sets the focus late, when the keys have gone on to the next dimension. So only a focus by key counts.
form.addEventListener("focusin", (event) => { if (event.target.matches(":focus-visible")) answers.moveTo(event.target); });
form.addEventListener("pointerdown", (event) => answers.moveTo(event.target), true);
for (const name of ["skip", "flag", "undo", "guide", "pause", "play"]) for (const button of document.querySelectorAll(`[data-act="${name}"]`)) {
  button.addEventListener("click", () => { ({ skip, flag, undo, guide, pause, play: acts.v })[name](); });
}
sheet.addEventListener("click", (event) => {
  const card = event.target.closest(".answer.choosable");
  if (!card || event.target.closest("a, video, summary, button") || String(getSelection())) return;
  answers.key(PLACES[Number(card.dataset.place)] ?? "");
});
addEventListener("pagehide", () => { if (!document.documentElement.dataset.forgotten) keepDraft(); }); // after signing out nothing is written again

if (read("palate:guided") === false || matchMedia("(max-width: 1100px)").matches) guideHidden();
function guideHidden() { desk.classList.remove("guided"); aside.hidden = true; find("guide").setAttribute("aria-expanded", "false"); }

watchMedia(sheet);
fitPanes(form, [document.querySelector(".top"), find("strip")]);
const firstWarning = curtain.dataset.first && read(`palate:warned:${account}:${project}`) !== desk.dataset.guideline;
if (firstWarning) { clock.stop(); curtain.showModal(); } else delete curtain.dataset.first;
pace();
const drawn = sheet.querySelector("article.item");
if (drawn && !outbox.has(drawn.dataset.assignment)) show(drawn.dataset.assignment, drawn, Number(drawn.dataset.remaining));
else next();
