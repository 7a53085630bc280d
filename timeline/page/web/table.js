// The events as a table, a page at a time: 50,000 rows at once would be slow.
import { clock, day, took } from './format.js';
import { element } from './detail.js';

const size = 100;

export class Table {
  /** chosen is called with the mark of a row that was activated. */
  constructor(model, chosen) {
    this.model = model;
    this.at = 0;
    this.rows = document.getElementById('rows');
    this.page = document.getElementById('page');
    this.earlier = document.getElementById('earlier');
    this.later = document.getElementById('later');
    this.earlier.addEventListener('click', () => this.turn(-1));
    this.later.addEventListener('click', () => this.turn(1));
    this.rows.addEventListener('click', (e) => {
      const row = e.target.closest('tr');
      if (row) chosen(this.model.shown[Number(row.dataset.index)]);
    });
  }

  turn(by) {
    this.at = Math.min(Math.max(this.at + by, 0), this.pages - 1);
    this.fill();
  }

  get pages() { return Math.max(1, Math.ceil(this.model.shown.length / size)); }

  /** show fills the table, at the page of the selected mark. */
  show(selected) {
    if (selected && selected.index >= 0) this.at = Math.floor(selected.index / size);
    this.at = Math.min(this.at, this.pages - 1);
    this.selected = selected;
    this.fill();
  }

  fill() {
    const { base, shown } = this.model;
    let last = '';
    const rows = shown.slice(this.at * size, (this.at + 1) * size).map((m) => {
      const date = day(base + m.at);
      const when = element('button', { type: 'button', className: 'at', textContent: clock(base + m.at) });
      const cell = element('td', {}, ...(date === last ? [] : [element('div', { className: 'date', textContent: date })]), when);
      last = date;
      const attempt = m.subject.attempt > 0 ? ` @${m.subject.attempt}` : '';
      const row = element('tr', { className: m.bad ? 'bad' : '' },
        cell, element('td', { className: 'wide', textContent: m.lane.path + attempt }),
        element('td', {}, element('div', { className: 'narrow', textContent: m.lane.path + attempt }), `${m.bad ? '✖ ' : ''}${m.words}`),
        element('td', { className: 'wide', textContent: m.since > 0 ? `+${took(m.since)}` : '' }));
      row.dataset.index = m.index;
      if (m === this.selected) row.setAttribute('aria-current', 'true');
      return row;
    });
    const focused = this.rows.contains(document.activeElement);
    this.rows.replaceChildren(...rows);
    // Who came by keys stays where he was.
    if (focused) this.rows.querySelector('[aria-current] .at')?.focus({ preventScroll: true });
    this.page.textContent = shown.length === 0 ? (this.model.marks.length === 0 ? 'There is no event.' : 'No event has that.') : `Page ${this.at + 1} of ${this.pages}, ${shown.length} events`;
    this.earlier.disabled = this.at === 0;
    this.later.disabled = this.at >= this.pages - 1;
  }
}
