// What a key means here, or "" when it means nothing: while somebody types, or with Ctrl, Alt or Meta held.
const WORDS = new Set(["s", "f", "u", "g", "p", "r", "v", "q", "w", "e", "="]);

export function isTyping(target) {
  return target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && !["radio", "checkbox", "submit", "button"].includes(target.type))
    || target instanceof HTMLSelectElement || target.isContentEditable;
}

export function meaning(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || isTyping(event.target)) return "";
  const key = event.key;
  if (/^[0-9]$/.test(key)) return key;
  if (WORDS.has(key.toLowerCase())) return key.toLowerCase();
  const digit = /^Digit([0-9])$/.exec(event.code); // keyboards whose digits need Shift (French) give another sign without it
  if (digit && !event.shiftKey) return digit[1];
  if (key === "Backspace" || key === "Enter" || key === "ArrowLeft" || key === "ArrowRight") return key;
  return "";
}
