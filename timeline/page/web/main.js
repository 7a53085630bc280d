// Puts the parts together. app is the page's state and what can be done to it.
import { took } from './format.js';
import { filter, label, read } from './model.js';
import { legend } from './shapes.js';
import { View } from './view.js';
import { Drawing, inView } from './draw.js';
import { detail, element } from './detail.js';
import { Table } from './table.js';
import { keys, pointers } from './input.js';

const by = (id) => document.getElementById(id);
const model = read(JSON.parse(by('data').textContent));
filter(model, '', false);
const view = new View(model);
const chart = by('chart');
const drawing = new Drawing(by('canvas'), view);
const table = new Table(model, (mark) => {
  app.select(mark);
  chart.scrollIntoView({ block: 'nearest' });
});
let due = false, frames = 0;

const app = {
  chart, view, range: null,

  /** changed draws soon: once a frame, however much changed. */
  changed() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      view.scroll = chart.scrollTop;
      drawing.draw();
      if (app.range) drawRange();
      // The text costs more than the drawing: while the view moves it follows a few times a second.
      if (chart.classList.contains('dragging') && ++frames % 10 > 0) return;
      by('range').textContent = `${inView(view)}, ${took(view.span)}`;
    });
  },

  /** select makes a mark the current one, for eyes, for screen readers and below the chart. */
  select(mark, { move = true } = {}) {
    if (!mark) return;
    view.selected = mark;
    if (move) chart.scrollTop = view.reveal(mark);
    options();
    by('detail').hidden = false;
    detail(model, mark, by('detail-body'));
    table.show(mark);
    app.changed();
  },

  /** step goes along the time. */
  step(by) {
    const now = view.selected && view.selected.index >= 0 ? view.selected.index : by > 0 ? -1 : model.shown.length;
    app.select(model.shown[Math.min(Math.max(now + by, 0), model.shown.length - 1)]);
  },

  /** jump goes to the nearest mark of a lane above or below. */
  jump(by) {
    const lanes = [model.lanes[0], ...model.order].filter((l) => l.shown.length > 0);
    const at = lanes.indexOf(view.selected?.lane);
    const lane = lanes[at < 0 ? 0 : at + by];
    if (!lane) return;
    const to = view.selected?.at ?? view.from;
    app.select(lane.shown.reduce((a, b) => Math.abs(b.at - to) < Math.abs(a.at - to) ? b : a));
  },

  /** problem goes to the next thing that went wrong. */
  problem(by) {
    const from = view.selected && view.selected.index >= 0 ? view.selected.index : by > 0 ? -1 : model.shown.length;
    for (let i = from + by; i >= 0 && i < model.shown.length; i += by) {
      if (model.shown[i].bad) return app.select(model.shown[i]);
    }
  },

  /** focus is the time to zoom around. */
  focus() {
    const at = view.selected?.at;
    return at > view.from && at < view.to ? at : undefined;
  },

  /** read moves the focus to the event in words. */
  read() {
    if (view.selected) by('detail').focus();
  },
};

/** options are the current mark and its neighbours as options of the list: more would only
 * burden the document, and say no more. */
function options() {
  for (const old of chart.querySelectorAll('.option')) old.remove();
  chart.removeAttribute('aria-activedescendant');
  const current = view.selected && view.selected.index >= 0 ? view.selected : null;
  const at = current?.index ?? 0;
  chart.append(...model.shown.slice(Math.max(0, at - 2), at + 3).map((m) => {
    const option = element('div', { id: `mark-${m.sequence}`, className: 'option', role: 'option', textContent: label(model, m) });
    option.setAttribute('aria-setsize', model.shown.length);
    option.setAttribute('aria-posinset', m.index + 1);
    option.setAttribute('aria-selected', m === current);
    return option;
  }));
  if (current) chart.setAttribute('aria-activedescendant', `mark-${current.sequence}`);
}

function drawRange() {
  const c = drawing.context;
  const [a, b] = [Math.min(...app.range), Math.max(...app.range)];
  c.fillStyle = drawing.color('--accent');
  c.globalAlpha = 0.2;
  c.fillRect(a, 0, b - a, view.height);
  c.globalAlpha = 1;
}

/** layout fits the chart to the window. */
function layout() {
  const width = chart.clientWidth;
  view.narrow = width < 640;
  view.width = width;
  view.arrange();
  view.height = Math.round(Math.min(view.total, Math.max(300, window.innerHeight * 0.62)));
  chart.style.height = `${view.height + 2}px`;
  view.width = chart.clientWidth; // less the scroll bar
  by('spacer').style.height = `${view.total - view.height}px`;
  drawing.resize(view.width, view.height);
  app.changed();
}

function filtered() {
  filter(model, by('filter').value, by('problems').checked);
  options();
  by('count').textContent = model.shown.length === model.marks.length ? '' : `${model.shown.length} of ${model.marks.length} events`;
  table.at = 0;
  table.show(view.selected);
  layout();
}

/** inspect shows an event with what happened around it. */
function inspect(mark) {
  const marks = mark.lane.marks.filter((m) => m.subject === mark.subject);
  const first = marks[0].at, last = marks[marks.length - 1].at;
  // A long life would hide its end in a pixel.
  view.show(Math.max(first, mark.at - 60e6), Math.min(last, mark.at + 20e6));
  app.select(mark);
  by('timeline').scrollIntoView({ block: 'start' });
  chart.focus({ preventScroll: true });
}

function themes() {
  const button = by('theme'), names = ['system', 'light', 'dark'];
  let now = 0;
  button.addEventListener('click', () => {
    now = (now + 1) % names.length;
    if (now === 0) delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = names[now];
    button.textContent = `Theme: ${names[now]}`;
    retheme();
  });
  const retheme = () => {
    drawing.themed();
    app.changed();
  };
  for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)']) matchMedia(query).addEventListener('change', retheme);
}

by('timeline').hidden = by('events').hidden = false;
legend(by('legend'), new Set(model.marks.map((m) => m.kind)));
pointers(app);
keys(app);
themes();
chart.addEventListener('scroll', () => app.changed(), { passive: true });
by('filter').addEventListener('input', filtered);
by('problems').addEventListener('change', filtered);
const does = {
  before: () => app.problem(-1), after: () => app.problem(1), in: () => view.zoom(0.5, app.focus()), out: () => view.zoom(2, app.focus()), fit: () => view.fit(),
};
for (const [id, action] of Object.entries(does)) {
  by(id).addEventListener('click', () => {
    action();
    app.changed();
  });
}
by('detail').addEventListener('keydown', (e) => {
  if (e.key === 'Escape') chart.focus();
});
const bySequence = new Map(model.marks.map((m) => [String(m.sequence), m]));
for (const button of document.querySelectorAll('.go')) {
  const mark = bySequence.get(button.dataset.sequence);
  if (mark) button.addEventListener('click', () => inspect(mark)); else button.hidden = true;
}
window.addEventListener('resize', layout);
layout();
options();
table.show(null);
