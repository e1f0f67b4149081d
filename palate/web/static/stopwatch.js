// Seconds that somebody looked at the page. Hidden pages and breaks do not count, and a silence counts for at most two minutes.
const LONGEST_SILENCE_MS = 120000;

export class Stopwatch {
  constructor() {
    this.total = 0;
    this.day = 0;
    this.last = performance.now();
    this.stopped = document.hidden;
    for (const kind of ["pointermove", "pointerdown", "keydown", "scroll", "wheel", "touchmove"]) addEventListener(kind, () => this.#tick(), { passive: true, capture: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.go()));
  }

  #tick() {
    const now = performance.now();
    const passed = this.stopped ? 0 : Math.min(now - this.last, LONGEST_SILENCE_MS);
    this.total += passed;
    this.day += passed;
    this.last = now;
  }

  restart(seconds = 0) { this.#tick(); this.total = seconds * 1000; }
  stop() { this.#tick(); this.stopped = true; }
  go() { this.#tick(); this.stopped = false; }
  get seconds() { this.#tick(); return Math.round(this.total / 10) / 100; }
  get worked() { this.#tick(); return this.day / 1000; }
  rested() { this.day = 0; }
}
