// localStorage that may be full, forbidden or spoilt: then nothing is kept, and nothing breaks.
export function read(name) {
  try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }
}

export function write(name, value) {
  try { localStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
}

export function remove(name) {
  try { localStorage.removeItem(name); } catch { /* it was not kept */ }
}

export function secret() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
