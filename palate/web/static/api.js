// Requests to the server return {status, data}; status 0 means that the server did not answer. An outdated CSRF token is renewed once.
const TIMEOUT_MS = 15000;

export class Api {
  constructor(account, csrf) { this.account = account; this.csrf = csrf; }

  async post(path, body, timeout = TIMEOUT_MS) {
    const first = await this.#once("POST", path, body, timeout);
    if (first.status !== 403 || first.data?.code !== "csrf") return first;
    const session = await this.#once("GET", "/api/session");
    if (session.status !== 200 || session.data.account !== this.account) return { status: 401, data: null };
    this.csrf = session.data.csrf;
    return this.#once("POST", path, body, timeout);
  }

  async #once(method, path, body, timeout = TIMEOUT_MS) {
    try {
      const response = await fetch(path, {
        method,
        headers: { "Content-Type": "application/json", "X-CSRF-Token": this.csrf },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(timeout),
        redirect: "error",
      });
      return { status: response.status, data: await response.json().catch(() => null) };
    } catch { return { status: 0, data: null }; }
  }
}
