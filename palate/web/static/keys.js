// What a key means here, or "" if it does not mean anything: while somebody types, or with Ctrl, Alt or Meta.

// The keys of the places of a ranking: digits, then letters that are not used otherwise.
export const PLACES = [..."123456789abcdehijklmnoqtwxyz"];

export function isTyping(target) {
  return target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && !["radio", "checkbox", "submit", "button"].includes(target.type))
    || target instanceof HTMLSelectElement || target.isContentEditable;
}

export function meaning(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || isTyping(event.target)) return "";
  const key = event.key;
  if (/^[0-9]$/.test(key)) return key;
  if (key === "=" || /^[a-z]$/i.test(key)) return key.toLowerCase();
  const digit = /^Digit([0-9])$/.exec(event.code); // on keyboards whose digits need Shift (French), the key alone gives another character
  if (digit && !event.shiftKey) return digit[1];
  if (key === "Backspace" || key === "Enter" || key === "ArrowLeft" || key === "ArrowRight") return key;
  return "";
}
