// Line charts over the last minutes, drawn by uPlot. Its legend and title are not used: labels are ours, as text.

import { h, text } from './dom.js';
import { clock } from './format.js';

/** window is the time shown: what there is, but a minute at least, and at most five. */
function window(_, min, max) {
  const end = max ?? Date.now() / 1000;
  return [Math.max(end - 300, Math.min(end - 60, min ?? end)), end];
}

const steps = Array.from({ length: 10 }, (_, i) => [1, 2, 5].map((n) => n * 10 ** i)).flat(); // of an axis that counts

const height = 150; // CSS pixels, reserved before anything is drawn

/**
 * chart makes a figure with up to two series: {node, draw(seconds, series), close()}. Series are [{name, colour}], where colour is
 * a custom property of the style sheet; words(value) puts a value in words; whole is for values that are counted.
 */
export function chart({ title, series, words, whole = false }) {
  const values = series.map(() => h('strong', {}, '–'));
  const place = h('div', { class: 'plot', role: 'img', 'aria-label': `${title}: no data yet` });
  const node = h('figure', { class: 'chart card' },
    h('figcaption', {},
      h('h3', {}, title),
      h('ul', { class: 'legend' }, series.map((s, i) => h('li', { class: s.class }, `${s.name} `, values[i])))),
    place);

  let plot;
  let data = [[], ...series.map(() => [])];

  const build = () => {
    plot?.destroy();
    plot = undefined;
    const width = Math.floor(place.clientWidth);
    if (width === 0 || !globalThis.uPlot) return;
    const colour = (name) => { // as the theme has it
      place.style.color = `var(${name})`;
      return getComputedStyle(place).color;
    };
    const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui' };
    plot = new globalThis.uPlot({
      width, height, legend: { show: false }, cursor: { show: false }, padding: [8, 4, 0, 0],
      scales: {
        x: { time: true, range: window },
        y: { range: (_, __, max) => [0, Math.max(1, (max || 0) * 1.15)] },
      },
      axes: [
        { ...axis, size: 24, space: 90, values: (_, splits) => splits.map((s) => clock(new Date(s * 1000))) },
        { ...axis, size: 58, space: 34, values: (_, splits) => splits.map(words), ...(whole && { incrs: steps }) },
      ],
      series: [{}, ...series.map((s) => ({
        stroke: colour(s.colour), width: 2, spanGaps: true, points: { show: false }, paths: globalThis.uPlot.paths.stepped({ align: 1 }),
        ...(s.dash && { dash: s.dash }),
      }))],
    }, data, place);
  };

  const observer = new ResizeObserver(() => {
    const width = Math.floor(place.clientWidth);
    if (plot && width > 0) plot.setSize({ width, height });
    else build();
  });
  observer.observe(place);
  addEventListener('themechange', build);

  return {
    node,
    draw(seconds, lines) {
      data = [seconds, ...lines];
      if (plot) plot.setData(data);
      else build();
      lines.forEach((line, i) => text(values[i], line.length ? words(line.findLast((v) => v !== null) ?? 0) : '–'));
      place.setAttribute('aria-label', `${title}: ${series.map((s, i) => `${s.name} ${values[i].textContent}`).join(', ')}`);
    },
    close() {
      observer.disconnect();
      removeEventListener('themechange', build);
      plot?.destroy();
    },
  };
}
