// Mark where two texts differ, word by word. The marks stand in copies of the texts, beside the originals.
const WORD = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]|[\p{L}\p{M}\p{N}_]+|\s|./gsu;
const MOST_CHANGES = 1500; // the work grows with the square of the changes

// Fill `pre.marked` beside each of two `pre.source`. Returns in words how much differs.
export function markDifferences([first, second]) {
  const texts = [first, second].map((one) => one.textContent);
  const words = texts.map((text) => text.match(WORD) ?? []);
  const changed = changes(...words);
  [first, second].forEach((source, side) => fill(source, words[side], changed[side]));
  if (texts[0] === texts[1]) return "The texts are the same.";
  const count = first.parentElement.querySelectorAll("mark").length + second.parentElement.querySelectorAll("mark").length;
  return `${count} ${count === 1 ? "place is" : "places are"} marked.`;
}

function fill(source, words, isChanged) {
  const box = source.parentElement.querySelector(".marked") ?? source.insertAdjacentElement("afterend", document.createElement("pre"));
  box.className = "marked";
  box.dir = source.dir;
  const parts = [];
  for (let at = 0; at < words.length;) {
    let end = at;
    while (end < words.length && isChanged[end] === isChanged[at]) end += 1;
    const text = words.slice(at, end).join("");
    parts.push(isChanged[at] ? marked(text) : text);
    at = end;
  }
  box.replaceChildren(...parts);
}

function marked(text) {
  const mark = document.createElement("mark");
  mark.textContent = text;
  if (/^[\s\p{Cf}]*$/u.test(text)) mark.dataset.code = [...text].map((char) => ({ " ": "\u00b7", "\n": "\u21b5" })[char] ?? `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`).join(" ");
  return mark;
}

// Which words of each text have no partner in the other one (Myers 1986, "An O(ND) difference algorithm").
function changes(a, b) {
  let head = 0;
  let tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const flags = [a, b].map((words) => words.map((_, at) => at >= head && at < words.length - tail));
  const path = shortest(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
  for (const [x, y] of path ?? []) { flags[0][head + x] = false; flags[1][head + y] = false; }
  [a, b].forEach((words, side) => joinBlanks(words, flags[side]));
  return flags;
}

// The pairs of equal words on the shortest path, or null if the texts differ too much. `reach` holds how far each diagonal has come.
function shortest(a, b) {
  const most = Math.min(a.length + b.length, MOST_CHANGES);
  const zero = most + 1;
  const reach = new Int32Array(2 * most + 3);
  const rounds = [];
  for (let d = 0; d <= most; d += 1) {
    rounds.push(reach.slice(zero - d - 1, zero + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const from = origin(k, d, reach, zero);
      let x = reach[zero + from] + (from < k ? 1 : 0);
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach[zero + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(rounds, a.length, b.length);
    }
  }
  return null;
}

// The diagonal from which round `d` comes to diagonal `k`: the one above if a word of the second text was added.
function origin(k, d, reach, zero) {
  return k === -d || (k !== d && reach[zero + k - 1] < reach[zero + k + 1]) ? k + 1 : k - 1;
}

function walkBack(rounds, x, y) {
  const pairs = [];
  for (let d = rounds.length - 1; d >= 0; d -= 1) {
    const from = origin(x - y, d, rounds[d], d + 1);
    const start = rounds[d][d + 1 + from];
    while (x > start && y > start - from) { x -= 1; y -= 1; pairs.push([x, y]); }
    x = start;
    y = start - from;
  }
  return pairs;
}

// A blank between two changed words belongs to the change.
function joinBlanks(words, flags) {
  for (let at = 1; at < words.length - 1; at += 1) if (!flags[at] && /^\s$/.test(words[at]) && flags[at - 1] && flags[at + 1]) flags[at] = true;
}
