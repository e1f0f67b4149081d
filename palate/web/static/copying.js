// Copy a text. Pages without https have no clipboard, so a selected text field is the second way. Returns whether it worked.
export async function copyText(text) {
  try { await navigator.clipboard.writeText(text); return true; } catch { /* no clipboard here, or not allowed */ }
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  field.className = "vh";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus({ preventScroll: true });
  return isCopied;
}
