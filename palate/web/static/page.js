// Scripts of every page: the theme button, copying, confirmation before an action that cannot be undone, and removal of drafts at sign-out
// (but of answers that were not sent yet, which the server may refuse).
import { copyText } from "./copying.js";

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);

for (const button of document.querySelectorAll("[data-theme-toggle]")) {
  const update = () => button.setAttribute("aria-pressed", String(isDark()));
  update();
  dark.addEventListener("change", update);
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    const asSystem = (next === "dark") === dark.matches;
    if (asSystem) delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      if (asSystem) localStorage.removeItem("palate:theme");
      else localStorage.setItem("palate:theme", next);
    } catch { /* private mode: the choice lasts while this page is open */ }
    update();
  });
}

for (const form of document.querySelectorAll("form[data-ask]")) {
  form.addEventListener("submit", (event) => { if (!confirm(form.dataset.ask)) event.preventDefault(); });
}

for (const form of document.querySelectorAll("form[data-forget]")) {
  form.addEventListener("submit", () => {
    root.dataset.forgotten = "yes";
    try {
      const names = Object.keys(localStorage);
      const unsent = names.filter((name) => name.startsWith("palate:outbox:")).flatMap((name) => JSON.parse(localStorage[name]).map(({ body }) => body.assignment));
      for (const name of names) if (name.startsWith("palate:draft:") && !unsent.some((id) => name.endsWith(id))) localStorage.removeItem(name);
    } catch { /* nothing was stored */ }
  });
}

// A second press does not send a form twice. A form that only reads may be sent again: its answer can be a file, and then the page stays.
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented || form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    if (!form.hasAttribute("data-again")) form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => { for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent; });

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const shown = document.getElementById(button.dataset.copy);
    if (await copyText(shown.textContent.trim())) button.textContent = "Copied";
    else getSelection().selectAllChildren(shown);
  });
}
