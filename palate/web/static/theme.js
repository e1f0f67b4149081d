// Runs before the page is drawn, so that a chosen theme does not flash. No choice kept means: as the system says.
(() => {
  const kept = (() => { try { return localStorage.getItem("palate:theme"); } catch { return null; } })();
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
