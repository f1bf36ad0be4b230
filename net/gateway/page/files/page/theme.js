// Sets the theme before anything is drawn, so that nothing flashes. Without a choice the system's holds.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem('anabranch.theme');
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
