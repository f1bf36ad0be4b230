// What can be measured of how a page looks: contrast, and what moved.

/** faint lists the texts on a page whose contrast with their ground is less than WCAG's 4.5 (3 if they are large). */
export function faint(page) {
  return page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const read = (colour) => { // any CSS colour, as red, green, blue, alpha
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const ground = (node) => {
      for (let n = node; n; n = n.parentElement) {
        const c = read(getComputedStyle(n).backgroundColor);
        if (c[3] > 0.99) return c;
      }
      return [255, 255, 255, 1];
    };
    const light = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const found = [];
    let looked = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let t = walker.nextNode(); t; t = walker.nextNode()) {
      const node = t.parentElement;
      if (!t.textContent.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
      if (node.closest('button:disabled, script, style, noscript')) continue; // what cannot be used may be faint
      looked++;
      const style = getComputedStyle(node);
      const [a, b] = [light(read(style.color)), light(ground(node))].sort((x, y) => y - x);
      const ratio = (a + 0.05) / (b + 0.05);
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${t.textContent.trim().slice(0, 60)}`);
    }
    return looked ? found : ['no text was found'];
  });
}

/** noteShifts must be called before the page is opened; shifts then tells how much has moved that nobody had touched (CLS). */
export const noteShifts = (context) => context.addInitScript(() => {
  globalThis.shifted = 0;
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) if (!e.hadRecentInput) globalThis.shifted += e.value;
  }).observe({ type: 'layout-shift', buffered: true });
});

export const shifts = (page) => page.evaluate(() => globalThis.shifted);

/** wider tells by how many pixels a page is wider than its window. */
export const wider = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
