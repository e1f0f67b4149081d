// localStorage may be full, forbidden or damaged. Then nothing is stored, and nothing breaks.
export function read(name) {
  try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }
}

export function write(name, value) {
  try { localStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
}

export function remove(name) {
  try { localStorage.removeItem(name); } catch { /* it was not stored */ }
}

export function secret() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
