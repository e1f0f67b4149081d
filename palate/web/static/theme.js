// Runs before the page is drawn, so that a chosen theme does not flash. Without a stored choice the theme follows the system.
(() => {
  const stored = (() => { try { return localStorage.getItem("palate:theme"); } catch { return null; } })();
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
})();
