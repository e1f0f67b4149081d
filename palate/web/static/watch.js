// The live page of runs. It asks for new content once a second while it is visible, and draws what changed.
import { element, Plot } from "./plot.js";

const EVERY_MS = 1000;
const HALF = 1.96;
const COLOURS = 8;
const at = (id) => document.getElementById(id);
const plots = new Map();
const chosen = new Map(); // the moment chosen for each run
let drawnSamples = "";
let tag = "";
let content = null;
let skew = 0; // seconds by which the server's clock is ahead of this one
let lastAnswer = Date.now();

async function follow() {
  if (!document.hidden) {
    try {
      const response = await fetch("/data", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (response.status === 200) {
        content = await response.json();
        tag = response.headers.get("ETag") ?? "";
        draw();
      } else if (response.status !== 304) throw new Error(String(response.status));
      skew = (Date.parse(response.headers.get("Date")) - Date.now()) / 1000 || 0;
      lastAnswer = Date.now();
      at("lost").hidden = true;
    } catch {
      at("lost").hidden = false;
      at("lost").textContent = `\`palate watch\` does not answer. What you see is of ${new Date(lastAnswer).toLocaleTimeString()}.`;
    }
    if (content) drawRuns(content.runs);
  }
  setTimeout(follow, EVERY_MS);
}

function draw() {
  drawWarnings(content.runs);
  drawCurves(content.panels, content.runs);
  drawSamples(content.runs);
}

const number = (k) => (k % COLOURS) + 1;

function drawRuns(runs) {
  const rows = runs.map((run, k) => {
    const row = element("li", `of-${number(k)}`);
    const name = row.appendChild(element("span", "name"));
    name.append(run.name);
    name.appendChild(element("small")).textContent = run.stage;
    const state = row.appendChild(element("span", `state ${run.state}`));
    state.textContent = run.state;
    if (run.progress?.total) {
      const bar = row.appendChild(document.createElement("progress"));
      bar.max = run.progress.total;
      bar.value = run.progress.done;
      bar.setAttribute("aria-label", `Progress of ${run.name}`);
    }
    row.appendChild(document.createElement("p")).textContent = progressOf(run);
    for (const text of [run.why, ...run.faults].filter(Boolean)) row.appendChild(element("p", "why")).textContent = text;
    return row;
  });
  at("runs").replaceChildren(...rows);
}

function progressOf(run) {
  const now = Date.now() / 1000 + skew;
  const words = [];
  if (run.progress) {
    const { label, done, total, seconds_per_unit: each, at: written } = run.progress;
    words.push(`${label}: ${done} of ${total}`);
    if (run.state === "running") words.push(each === null ? "time left not known yet" : `about ${duration(Math.max(0, each * (total - done) - (now - written)))} left`);
  } else if (run.rows) words.push(`${run.rows} ${run.rows === 1 ? "row" : "rows"} of metrics`);
  if (run.seconds !== null) words.push(`took ${duration(run.seconds)}`);
  else words.push(`last written ${duration(Math.max(0, now - run.written))} ago`);
  return words.join(" \u00b7 ");
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function drawWarnings(runs) {
  const rows = runs.flatMap((run, k) => run.warnings.map((warning) => {
    const row = element("li", `of-${number(k)}`);
    row.appendChild(document.createElement("b")).textContent = `${warning.guard}, step ${warning.step}`;
    row.append(warning.text);
    if (runs.length > 1) row.appendChild(element("small")).textContent = run.name;
    return row;
  }));
  at("warnings").hidden = rows.length === 0;
  at("warnings").querySelector("ul").replaceChildren(...rows.reverse());
}

function drawCurves(panels, runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  const errors = new Set(panels.map(({ error }) => error).filter(Boolean));
  const inOrder = [];
  for (const panel of panels) for (const name of names) if (rest(name) === panel.metric) inOrder.push([name, panel]);
  const lead = inOrder.filter(([name]) => !repeats(name, runs));
  const leading = new Set(lead.map(([name]) => name));
  const others = names.filter((name) => !leading.has(name) && !errors.has(rest(name)));
  const stages = new Set(names.map((name) => name.split("/")[0]));
  at("nothing").hidden = names.length > 0;
  place("charts", lead.map(([name, panel]) => [name, { ...panel, title: stages.size > 1 ? `${panel.title}, ${name.split("/")[0]}` : panel.title }]), runs);
  at("more").hidden = others.length === 0;
  place("others", others.map((name) => [name, { title: name, unit: "", error: "" }]), runs);
}

const rest = (name) => name.slice(name.indexOf("/") + 1);

// The score is often the reward itself: one chart is enough.
function repeats(name, runs) {
  if (rest(name) !== "score/mean") return false;
  const reward = name.replace("score/mean", "reward/mean");
  return runs.every(({ curves }) => !curves[name] || (curves[reward] && curves[name].y.every((value, k) => value === curves[reward].y[k])));
}

function place(folder, wanted, runs) {
  const figures = wanted.map(([name, panel]) => {
    if (!plots.has(name)) plots.set(name, new Plot(panel, (step) => { for (const plot of plots.values()) plot.point(step); }));
    const plot = plots.get(name);
    const lines = runs.flatMap((run, k) => (run.curves[name] ? [lineOf(run, k, name, panel)] : []));
    const limits = runs.map((run) => run.progress?.limits?.[name]).filter((limit) => typeof limit === "number");
    const marks = folder === "charts" ? runs.filter((run) => run.curves[name]).flatMap((run) => run.warnings.map(({ step, guard }) => ({ step, text: `${guard}, step ${step}` }))) : [];
    plot.draw(lines, limits, marks);
    return plot.figure;
  });
  const holder = at(folder);
  if (figures.length !== holder.children.length || figures.some((figure, k) => holder.children[k] !== figure)) holder.replaceChildren(...figures);
}

function lineOf(run, k, name, panel) {
  const curve = run.curves[name];
  const error = panel.error ? run.curves[`${name.split("/")[0]}/${panel.error}`] : undefined;
  const isWhole = error !== undefined && error.y.length === curve.y.length;
  return { ...curve, number: number(k), name: run.name, error: isWhole ? error.y.map((value) => HALF * value) : null };
}

function drawSamples(runs) {
  const shown = runs.map((run, k) => [run, k]).filter(([run]) => run.examples.length);
  const state = JSON.stringify(shown.map(([run]) => [run.name, run.examples]));
  if (state === drawnSamples) return;
  drawnSamples = state;
  at("samples").hidden = shown.length === 0;
  at("prompts").replaceChildren(...shown.map(([run, k]) => samplesOf(run, k, shown.length > 1)));
}

function samplesOf(run, k, isNamed) {
  const box = element("div", `of-${number(k)}`);
  const steps = [...new Set(run.examples.flatMap(({ samples }) => samples.map(({ step }) => step)))].sort((a, b) => a - b);
  const prompts = box.appendChild(document.createElement("div"));
  const fill = () => prompts.replaceChildren(...run.examples.map((example) => promptOf(example, run, steps)));
  if (steps.length > 3) box.prepend(slider(run, steps, fill));
  if (isNamed) box.prepend(Object.assign(document.createElement("h3"), { textContent: run.name }));
  fill();
  return box;
}

// The place in `steps` of the middle column: chosen, or half way. null where there is none.
function middleOf(run, steps) {
  if (steps.length < 3) return null;
  const half = steps.reduce((best, step, k) => (Math.abs(step - steps.at(-1) / 2) < Math.abs(steps[best] - steps.at(-1) / 2) ? k : best), 1);
  return Math.min(Math.max(chosen.get(run.name) ?? half, 1), steps.length - 2);
}

function slider(run, steps, fill) {
  const row = element("label", "moments");
  const input = Object.assign(document.createElement("input"), { type: "range", min: 1, max: steps.length - 2, step: 1 });
  const output = document.createElement("output");
  const tell = () => { output.textContent = when(steps[input.value], run); };
  input.value = middleOf(run, steps);
  input.addEventListener("input", () => { chosen.set(run.name, Number(input.value)); tell(); fill(); });
  tell();
  row.append("Middle column", input, output);
  return row;
}

function when(step, { stage }) {
  const unit = stage === "online" ? "iteration" : "step";
  return step === 0 ? "before training" : `after ${step} ${unit}${step === 1 ? "" : "s"}`;
}

function promptOf({ prompt, samples }, run, steps) {
  const middle = middleOf(run, steps);
  const box = element("article", "prompt");
  box.appendChild(document.createElement("p")).textContent = prompt;
  const columns = box.appendChild(element("div", "columns"));
  const wanted = [...new Set([steps[0], ...(middle === null ? [] : [steps[middle]]), steps.at(-1)])];
  for (const step of wanted) {
    const sample = samples.findLast((one) => one.step === step);
    const column = columns.appendChild(element("div", step === steps.at(-1) && step !== steps[0] ? "latest" : ""));
    column.appendChild(document.createElement("h4")).textContent = when(step, run);
    const text = column.appendChild(element("div", sample?.text ? "text" : "text muted"));
    text.textContent = sample === undefined ? "not sampled" : sample.text || "empty";
  }
  return box;
}

document.addEventListener("visibilitychange", () => { if (content && !document.hidden) drawRuns(content.runs); });
follow();
