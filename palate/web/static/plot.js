// A chart of one metric: a line for each run, with a band where the standard error is known, grid, limit and marks of warnings.
const WIDTH = 360;
const HEIGHT = 180;
const LEFT = 44;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const SVG = "http://www.w3.org/2000/svg";

export class Plot {
  // `onPoint(step or null)` is called as a pointer moves over the chart.
  constructor({ title, unit }, onPoint) {
    this.figure = element("figure", "plot");
    const head = this.figure.appendChild(document.createElement("figcaption"));
    const name = head.appendChild(document.createElement("h3"));
    name.textContent = title;
    if (unit) name.appendChild(element("small")).textContent = unit;
    this.title = title;
    this.now = head.appendChild(element("span", "now"));
    this.svg = this.figure.appendChild(drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }));
    this.svg.addEventListener("pointermove", (event) => onPoint(this.#stepAt(event)));
    this.svg.addEventListener("pointerleave", () => onPoint(null));
    this.lines = [];
  }

  // `lines` are {number, name, x, y, error, last}; `limits` and `marks` are {value} and {step, text}.
  draw(lines, limits, marks) {
    this.lines = lines;
    const steps = lines.flatMap(({ x }) => x);
    const values = lines.flatMap(({ y, error }) => (error ? y.flatMap((value, k) => [value - error[k], value + error[k]]) : y));
    this.across = scale(Math.min(...steps), Math.max(...steps), LEFT, WIDTH - RIGHT);
    const [low, high, ticks] = range(Math.min(...values, ...limits.filter((limit) => near(limit, values))), Math.max(...values, ...limits.filter((limit) => near(limit, values))));
    const up = scale(low, high, HEIGHT - BOTTOM, TOP);
    const parts = ticks.flatMap((tick) => [
      drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: up(tick), y2: up(tick) }),
      label(short(tick, ticks), LEFT - 6, up(tick) + 3.5, "end"),
    ]);
    const [first, last] = [Math.min(...steps), Math.max(...steps)];
    parts.push(label(String(Math.round(first)), LEFT, HEIGHT - 6, "start"));
    if (last > first) parts.push(label("step", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle"), label(String(Math.round(last)), WIDTH - RIGHT, HEIGHT - 6, "end"));
    for (const limit of limits) if (limit >= low && limit <= high) parts.push(drawn("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: up(limit), y2: up(limit) }));
    for (const line of lines) parts.push(...this.#line(line, up));
    for (const { step, text } of marks) {
      if (step < first || step > last) continue;
      const at = this.across(step);
      const mark = drawn("path", { class: "mark", d: `M${at - 4} ${HEIGHT - BOTTOM}h8l-4 -7z` });
      mark.appendChild(drawn("title")).textContent = text;
      parts.push(mark);
    }
    this.cross = drawn("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.svg.replaceChildren(...parts, this.cross);
    const told = lines.map((line) => `${line.name}: ${digits(line.y[0])} at ${Math.round(line.x[0])}, ${digits(line.last)} at ${Math.round(line.x.at(-1))}`);
    this.svg.setAttribute("aria-label", `${this.title}. ${told.join("; ")}.`);
    this.point(null);
  }

  // Show the values at a step; the last ones for null.
  point(step) {
    const isShown = step !== null && this.across !== undefined;
    this.cross?.setAttribute("visibility", isShown ? "visible" : "hidden");
    if (isShown) for (const end of ["x1", "x2"]) this.cross.setAttribute(end, this.across(step));
    const values = this.lines.map((line) => {
      const one = element("b", `of-${line.number}`);
      const at = nearest(line.x, step);
      one.textContent = isShown ? (at === null ? "" : digits(line.y[at])) : digits(line.last);
      return one;
    });
    const where = element("span", "at");
    where.textContent = isShown ? `at ${Math.round(step)}` : "";
    this.now.replaceChildren(...(isShown ? [where] : []), ...values);
  }

  #line({ number, x, y, error }, up) {
    const points = x.map((step, k) => `${round(this.across(step))} ${round(up(y[k]))}`);
    const group = drawn("g", { class: `of-${number}` });
    if (error) {
      const side = (sign) => x.map((step, k) => `${round(this.across(step))} ${round(up(y[k] + sign * error[k]))}`);
      group.append(drawn("path", { class: "band", d: `M${side(1).join("L")}L${side(-1).reverse().join("L")}Z` }));
    }
    const [endX, endY] = points.at(-1).split(" ");
    group.append(drawn("path", { class: "line", d: `M${points.join("L")}` }), drawn("circle", { class: "end", cx: endX, cy: endY, r: 2.8 }));
    return [group];
  }

  #stepAt(event) {
    const box = this.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const steps = [...new Set(this.lines.flatMap(({ x }) => x))];
    if (!steps.length) return null;
    return steps.reduce((best, step) => (Math.abs(this.across(step) - at) < Math.abs(this.across(best) - at) ? step : best));
  }
}

export function digits(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3);
}

function nearest(steps, step) {
  if (step === null || step < steps[0] || step > steps.at(-1)) return null;
  return steps.reduce((best, one, k) => (Math.abs(one - step) < Math.abs(steps[best] - step) ? k : best), 0);
}

// A limit far from the curve would flatten it.
function near(limit, values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const reach = high - low || Math.abs(high) || 1;
  return limit >= low - reach && limit <= high + reach;
}

// The ends of an axis that holds [low, high], and round ticks between them.
function range(low, high) {
  if (low === high) [low, high] = [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
  const pad = (high - low) * 0.06;
  [low, high] = [low - pad, high + pad];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / gap); k * gap <= high; k += 1) ticks.push(k * gap);
  return [low, high, ticks];
}

function scale(low, high, from, to) {
  return high > low ? (value) => from + ((value - low) / (high - low)) * (to - from) : () => (from + to) / 2;
}

function short(tick, ticks) {
  const gap = ticks.length > 1 ? ticks[1] - ticks[0] : Math.abs(tick) || 1;
  const size = Math.max(...ticks.map(Math.abs));
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return tick.toExponential(1);
  return tick.toFixed(Math.max(0, -Math.floor(Math.log10(gap) + 1e-9)));
}

function round(value) { return Math.round(value * 100) / 100; }

function label(text, x, y, anchor) {
  const made = drawn("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
}

function drawn(kind, attributes = {}) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function element(kind, name = "") {
  const made = document.createElement(kind);
  if (name) made.className = name;
  return made;
}
