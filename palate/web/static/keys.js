// What a key means here, or "" if it does not mean anything: while somebody types, or with Ctrl, Alt or Meta.

// The keys of the places of a ranking: digits, then letters that are not used otherwise.
export const PLACES = [..."123456789abcehijknoqtwxyz"];

const NAMED = ["Backspace", "Enter", "ArrowLeft", "ArrowRight"];
let isLatin = null; // whether the keyboard gives Latin letters; null until somebody has pressed a letter

export function isTyping(target) {
  return target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && !["radio", "checkbox", "submit", "button"].includes(target.type))
    || target instanceof HTMLSelectElement || target.isContentEditable;
}

export function meaning(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || isTyping(event.target)) return "";
  if (NAMED.includes(event.key)) return event.key;
  const key = event.key.normalize("NFKC").toLowerCase(); // an input method may give wide letters and digits
  if (/^\p{L}$/u.test(key)) isLatin = /^\p{Script=Latin}$/u.test(key);
  if (/^[0-9=a-z]$/.test(key)) return key;
  return byPlace(key, event);
}

// Where the keyboard does not give the character that stands on the button, its place on a US keyboard counts (event.code).
function byPlace(key, { code, shiftKey }) {
  const digit = /^Digit([0-9])$/.exec(code); // on keyboards whose digits need Shift (French), the key alone gives another character
  if (digit && !shiftKey) return digit[1];
  const pad = /^Numpad([0-9])$/.exec(code);
  if (pad && /^\p{Nd}$/u.test(key)) return pad[1]; // digits of other scripts
  const isUnknown = ["process", "unidentified", "dead"].includes(key) || /^\p{M}$/u.test(key);
  const isForeign = isUnknown || (/^\p{L}/u.test(key) && !/^\p{Script=Latin}/u.test(key));
  if (code === "Equal" && isForeign && !shiftKey) return "=";
  const letter = /^Key([A-Z])$/.exec(code);
  // In Hebrew some of these keys give punctuation, which means nothing else here. In layouts such as Dvorak it is left alone.
  const isPunctuation = /^[\p{P}\p{S}]$/u.test(key) && isLatin !== true;
  return letter && (isForeign || isPunctuation) ? letter[1].toLowerCase() : "";
}
