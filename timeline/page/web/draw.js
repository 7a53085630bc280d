// Draws what is in view. A frame costs what is visible, not what there is: lanes out of view
// are skipped, and marks that would cover each other are drawn once.
import { clock, day, ticks, took } from './format.js';
import { firstAfter } from './model.js';
import { shapePath, shapes } from './shapes.js';

const font = 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
const small = `12px ${font}`, normal = `13px ${font}`, bold = `600 13px ${font}`;

/** How phases look: fill, edge, and a pattern: 0 plain, 1 rising lines, 2 falling ones, 3 only a line. */
const phases = {
  creating: ['--creating', '--creating-edge', 1], created: ['--creating', '--creating-edge', 0], starting: ['--creating', '--creating-edge', 1],
  ready: ['--running', '--running-edge', 0], running: ['--running', '--running-edge', 0], pull: ['--creating', '--creating-edge', 0],
  unwinding: ['--ending', '--bad', 2], stopping: ['--ending', '--ending-edge', 2], removing: ['--ending', '--ending-edge', 2],
  'failed pull': ['--bad-soft', '--bad', 2],
  stopped: [null, '--past', 3], exited: [null, '--past', 3], failed: [null, '--bad', 3],
};

/** markHeight is how far below the top of its row a mark lies: plain events lie at the foot of
 * the bars, so that they leave the names alone. */
const markHeight = (mark) => mark.kind === 'event' ? 18 : 10;

export class Drawing {
  constructor(canvas, view) {
    this.canvas = canvas;
    this.view = view;
    this.context = canvas.getContext('2d', { alpha: false });
    this.widths = new Map();
    this.themed();
  }

  /** themed reads the colours anew. */
  themed() {
    const style = getComputedStyle(document.documentElement);
    this.colors = new Map();
    this.color = (name) => {
      if (!this.colors.has(name)) this.colors.set(name, style.getPropertyValue(name).trim());
      return this.colors.get(name);
    };
    this.patterns = new Map();
    this.pictures = new Map();
  }

  resize(width, height) {
    const scale = this.scale = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.pictures = new Map();
  }

  /** measure is a text's width; texts come again in each frame. */
  measure(text, type) {
    const key = type + text;
    let w = this.widths.get(key);
    if (w === undefined) {
      if (this.widths.size > 20000) this.widths.clear();
      this.context.font = type;
      w = this.context.measureText(text).width;
      this.widths.set(key, w);
    }
    return w;
  }

  /** short is as much of a text as fits. */
  short(text, room, type) {
    if (this.measure(text, type) <= room) return text;
    let low = 0, high = Math.min(text.length, Math.ceil(room / 3));
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.measure(`${text.slice(0, middle)}…`, type) <= room) low = middle; else high = middle - 1;
    }
    return low > 0 ? `${text.slice(0, low).trimEnd()}…` : '';
  }

  text(text, x, y, type, color) {
    const c = this.context;
    c.font = type;
    c.fillStyle = this.color(color);
    c.fillText(text, x, y);
  }

  draw() {
    const { context: c, view: v } = this;
    c.fillStyle = this.color('--surface');
    c.fillRect(0, 0, v.width, v.height);
    c.textBaseline = 'middle';
    const marks = this.ticks();
    const chosen = v.selected?.lane;
    if (chosen && v.model.order[chosen.place] === chosen) {
      c.fillStyle = this.color('--raised');
      c.fillRect(0, v.laneTop(chosen), v.width, v.laneHeight);
    }
    this.inPlot(v.head, () => { this.grid(marks); this.verticals(); });
    const first = Math.max(0, Math.floor(v.scroll / v.laneHeight));
    const last = Math.min(v.model.order.length - 1, Math.floor((v.scroll + v.height - v.head) / v.laneHeight));
    c.save();
    c.beginPath();
    c.rect(0, v.head, v.width, Math.max(0, v.height - v.head));
    c.clip();
    for (let i = first; i <= last; i++) this.lane(v.model.order[i]);
    c.restore();
    this.head(marks);
  }

  /** inPlot draws where time passes, below a height. */
  inPlot(top, draw) {
    const { context: c, view: v } = this;
    c.save();
    c.beginPath();
    c.rect(v.gutter, top, v.plot, v.height);
    c.clip();
    draw();
    c.restore();
  }

  ticks() {
    const { view: v, model = v.model } = this;
    const apart = v.span / v.plot * 96;
    return ticks(model.base + v.from, model.base + v.to, apart).map(([at, label]) => [v.x(at - model.base), label]);
  }

  grid(marks) {
    const { context: c, view: v } = this;
    c.beginPath();
    for (const [x] of marks) c.rect(Math.round(x), v.head, 1, v.height);
    c.fillStyle = this.color('--grid');
    c.fill();
  }

  /** verticals are the node's own events, through all lanes. */
  verticals() {
    const { context: c, view: v } = this;
    const lines = [...this.visible(v.model.lanes[0])].filter((m) => shapes[m.kind].line);
    // Where several would cover each other, what went wrong is shown.
    lines.sort((a, b) => shapes[b.kind].weight - shapes[a.kind].weight);
    const taken = new Set(), paths = new Map();
    for (const m of lines) {
      const x = Math.round(v.x(m.at));
      if ([-2, -1, 0, 1, 2].some((by) => taken.has(x + by))) continue;
      taken.add(x);
      if (!paths.has(m.kind)) paths.set(m.kind, new Path2D());
      const wide = m.kind === 'reboot' ? 3 : 2;
      paths.get(m.kind).rect(x - wide / 2, v.head - 8, wide, v.height);
    }
    for (const [kind, path] of paths) {
      c.fillStyle = this.dashes(shapes[kind]);
      c.fill(path);
    }
  }

  /** dashes is a fill for upright lines: much cheaper than strokes with dashes. */
  dashes({ line, color }) {
    if (line.length === 0) return this.color(color);
    const key = color + line;
    if (!this.patterns.has(key)) {
      const tile = document.createElement('canvas');
      tile.width = 1;
      tile.height = line[0] + line[1];
      const c = tile.getContext('2d');
      c.fillStyle = this.color(color);
      c.fillRect(0, 0, 1, line[0]);
      this.patterns.set(key, this.context.createPattern(tile, 'repeat'));
    }
    return this.patterns.get(key);
  }

  /** visible yields a lane's marks in view. */
  * visible(l) {
    const { view: v } = this;
    const edge = v.span / v.plot * 8;
    for (let i = firstAfter(l.shown, v.from - edge, (m) => m.at); i < l.shown.length && l.shown[i].at <= v.to + edge; i++) yield l.shown[i];
  }

  head(marks) {
    const { context: c, view: v } = this;
    c.fillStyle = this.color('--raised');
    c.fillRect(0, 0, v.width, v.head);
    this.inPlot(0, () => {
      let free = v.gutter;
      for (const [x, label] of marks) {
        const w = this.measure(label, small);
        c.fillStyle = this.color('--past');
        c.fillRect(Math.round(x), v.axis - 6, 1, 6);
        if (x - w / 2 < free) continue;
        free = x + w / 2 + 8;
        this.text(label, x - w / 2, v.axis / 2, small, '--muted');
      }
    });
    if (v.gutter > 0) this.text(`${day(v.model.base + v.from)}, UTC`, 8, v.axis / 2, small, '--muted');
    this.lane(v.model.lanes[0]);
    c.fillStyle = this.color('--line');
    c.fillRect(0, v.axis, v.width, 1);
    c.fillRect(0, v.head - 1, v.width, 1);
  }

  lane(l) {
    const { context: c, view: v } = this;
    const top = v.laneTop(l);
    if (l.kind === 'pod' || l.kind === 'image') {
      c.fillStyle = this.color('--line');
      c.fillRect(0, top, v.width, 1);
    }
    const row = top + (v.narrow ? 20 : 4);
    this.inPlot(Math.max(top, 0), () => {
      this.bars(l, row);
      this.steps(l, row);
      this.marks(l, row);
    });
    this.name(l, top);
    if (v.gutter > 0) {
      c.fillStyle = this.color('--line');
      c.fillRect(v.gutter - 1, top, 1, v.laneHeight);
    }
  }

  name(l, top) {
    const { view: v } = this;
    const says = ['', '', '… ', '▲ ', '✖ '][l.trouble] + l.says;
    const color = ['--muted', '--muted', '--warn', '--warn', '--bad'][l.trouble];
    const type = l.kind === 'container' ? normal : bold;
    const name = l.kind === 'image' ? `image ${l.name}` : l.name;
    const x = (v.narrow ? 4 : 8) + (l.parent >= 0 ? 14 : 0);
    if (v.narrow) {
      const { context: c } = this;
      const w = this.measure(says, small);
      const shown = this.short(name, v.width - x - w - 20, type);
      // Lines of the node pass here.
      c.fillStyle = this.color(l.kind === 'node' || v.selected?.lane === l ? '--raised' : '--surface');
      c.fillRect(x - 2, top + 2, this.measure(shown, type) + (l.says ? w + 10 : 0) + 4, 17);
      this.text(shown, x, top + 11, type, l.within === 4 ? '--bad' : '--ink');
      if (l.says) this.text(says, x + this.measure(shown, type) + 10, top + 11, small, color);
      return;
    }
    this.text(this.short(name, v.gutter - x - 8, type), x, top + 15, type, l.within === 4 ? '--bad' : '--ink');
    if (l.says) this.text(this.short(says, v.gutter - x - 8, small), x, top + 33, small, color);
  }

  /** pattern is a fill of lines. */
  pattern(fill, edge, rising) {
    const key = fill + edge + rising;
    if (!this.patterns.has(key)) {
      const tile = document.createElement('canvas');
      tile.width = tile.height = 8;
      const c = tile.getContext('2d');
      c.fillStyle = this.color(fill);
      c.fillRect(0, 0, 8, 8);
      c.strokeStyle = this.color(edge);
      c.globalAlpha = 0.3;
      c.lineWidth = 1.2;
      c.beginPath();
      for (const by of [-8, 0, 8]) {
        c.moveTo(by, rising ? 8 : 0);
        c.lineTo(by + 8, rising ? 0 : 8);
      }
      c.stroke();
      this.patterns.set(key, this.context.createPattern(tile, 'repeat'));
    }
    return this.patterns.get(key);
  }

  bars(l, row) {
    const { context: c, view: v } = this;
    let lastEnd = -Infinity, lastName = '';
    for (let i = firstAfter(l.bars, v.from, (b) => b.until); i < l.bars.length && l.bars[i].from <= v.to; i++) {
      const b = l.bars[i];
      if (b.to < v.from) continue;
      const x = Math.max(v.x(b.from), v.gutter - 4), end = Math.min(v.x(b.to), v.width + 4);
      // Among many that are shorter than a pixel, one of a kind is enough.
      if (end - lastEnd < 0.7 && b.name === lastName) continue;
      lastEnd = end;
      lastName = b.name;
      const [fill, edge, pattern] = phases[b.name] ?? phases.created;
      const width = Math.max(end - x, 1.5);
      if (pattern === 3) {
        c.fillStyle = this.color(edge);
        c.fillRect(x, row + 9, width, 2);
        continue;
      }
      c.fillStyle = pattern === 0 ? this.color(fill) : this.pattern(fill, edge, pattern === 1);
      c.fillRect(x, row, width, 20);
      c.fillStyle = this.color(edge);
      c.fillRect(x, row, width, 1.5);
      c.fillRect(x, row + 18.5, width, 1.5);
      if (width > 3) c.fillRect(x, row, 1, 20);
      this.barName(b, x, end, row);
    }
  }

  barName(b, x, end, row) {
    const { view: v } = this;
    const begin = Math.max(x, v.gutter) + 12, room = end - begin - 14;
    if (room < 24 || b.subject.steps.some((s) => s.to > b.from && s.from < b.to && v.x(s.to) - v.x(s.from) > 8)) return;
    const attempt = b.subject.attempt > 0 ? `${b.name}, attempt ${b.subject.attempt}` : b.name;
    const name = this.measure(attempt, small) <= room ? attempt : b.name;
    if (this.measure(name, small) <= room) this.text(name, begin, row + 10.5, small, '--ink');
  }

  steps(l, row) {
    const { context: c, view: v } = this;
    for (let i = firstAfter(l.steps, v.from, (s) => s.until); i < l.steps.length && l.steps[i].from <= v.to; i++) {
      const s = l.steps[i];
      const x = Math.max(v.x(s.from), v.gutter - 4), end = Math.min(v.x(s.to), v.width + 4);
      if (s.to < v.from || end - x < 2) continue;
      const edge = s.state === 1 ? '--bad' : '--step';
      c.fillStyle = this.color(s.state === 1 ? '--bad-soft' : s.name === 'image pull' ? '--creating' : '--surface');
      c.fillRect(x, row + 3, end - x, 14);
      c.strokeStyle = this.color(edge);
      c.lineWidth = 1;
      c.setLineDash(s.state === 2 ? [3, 2] : []);
      c.strokeRect(x + 0.5, row + 3.5, Math.max(end - x - 1, 1), 13);
      c.setLineDash([]);
      const begin = Math.max(x, v.gutter) + 6;
      const room = end - begin - 8;
      const long = `${s.name}, ${took(s.to - s.from)}`;
      if (room > 30) this.text(this.short(this.measure(long, small) <= room ? long : s.name, room, small), begin, row + 10.5, small, '--ink');
    }
  }

  marks(l, row) {
    const { view: v } = this;
    const worded = [];
    // What matters more lies on top.
    const layers = [[], [], [], []], lastOf = {};
    for (const m of this.visible(l)) {
      const x = v.x(m.at), { weight } = shapes[m.kind];
      if (weight > 0) worded.push({ m, x });
      // Among many that would cover each other, one is enough.
      if (x - (lastOf[m.kind] ?? -99) < (m.kind === 'event' ? 2 : 3)) continue;
      lastOf[m.kind] = x;
      layers[m.kind === 'event' ? 0 : weight < 2 ? 1 : weight < 4 ? 2 : 3].push({ m, x });
    }
    for (const layer of layers) for (const { m, x } of layer) this.shape(m.kind, x, row + markHeight(m));
    this.words(worded, row + 31, l);
    if (v.selected?.lane === l && v.selected.index >= 0) this.ring(v.x(v.selected.at), row + markHeight(v.selected));
  }

  /** shape draws a kind's picture: a copy of pixels costs a tenth of its outline. */
  shape(kind, x, y) {
    const { scale } = this, size = 24;
    const at = (by) => Math.round((by - size / 2) * scale) / scale;
    this.context.drawImage(this.picture(kind, size), at(x), at(y), size, size);
  }

  picture(kind, size) {
    let picture = this.pictures.get(kind);
    if (picture) return picture;
    picture = document.createElement('canvas');
    picture.width = picture.height = Math.ceil(size * this.scale);
    const c = picture.getContext('2d');
    c.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    c.translate(size / 2, size / 2);
    const shape = shapes[kind], path = shapePath(kind);
    if (kind !== 'event') {
      c.strokeStyle = this.color('--surface');
      c.lineWidth = shape.hollow ? 5 : 2.5;
      c.stroke(path);
    }
    c.fillStyle = this.color(shape.hollow ? '--surface' : shape.color);
    c.fill(path);
    if (shape.hollow) {
      c.strokeStyle = this.color(shape.color);
      c.lineWidth = 2;
      c.stroke(path);
    }
    this.pictures.set(kind, picture);
    return picture;
  }

  ring(x, y) {
    const { context: c } = this;
    c.beginPath();
    c.arc(x, y, 11, 0, 7);
    c.strokeStyle = this.color('--surface');
    c.lineWidth = 5;
    c.stroke();
    c.strokeStyle = this.color('--accent');
    c.lineWidth = 2.5;
    c.stroke();
  }

  /** words puts the words of ends and failures below their marks; where there is no room for
   * all, what matters most and is newest has it. */
  words(worded, y, l) {
    const { context: c, view: v } = this;
    if (worded.length > 400) worded = worded.filter((w, i) => i === 0 || w.x - worded[i - 1].x > 2 || shapes[w.m.kind].weight > 5).slice(-400);
    worded.sort((a, b) => shapes[b.m.kind].weight - shapes[a.m.kind].weight || b.x - a.x);
    const taken = [];
    for (const { m, x } of worded) {
      if (taken.length > 40) return;
      let begin = Math.max(x - 6, v.gutter + 2), end = v.width - 2;
      const full = m.words.replace(/^ended: /, '');
      const wanted = Math.min(this.measure(full, small), 420, v.plot * 0.6);
      begin = Math.max(v.gutter + 2, Math.min(begin, end - wanted));
      for (const [from, to] of taken) {
        if (to <= x - 6) begin = Math.max(begin, to + 10);
        else if (from >= x - 6) end = Math.min(end, from - 10);
        else begin = end;
      }
      if (end - begin < Math.min(wanted, 44)) continue;
      const fits = [full, ...shapes[m.kind].brief ?? []].find((words) => this.measure(words, small) <= end - begin);
      const said = fits ?? this.short(full, end - begin, small);
      if (said.length < 3) continue;
      const width = this.measure(said, small);
      c.fillStyle = this.color(l.kind === 'node' || v.selected?.lane === l ? '--raised' : '--surface');
      c.fillRect(begin - 2, y - 8, width + 4, 15);
      this.text(said, begin, y, small, m.bad ? '--bad' : '--muted');
      taken.push([begin, begin + width]);
    }
  }
}

/** hit is what lies below a point: a mark, else a step or bar, else null. */
export function hit(view, x, y) {
  const l = view.laneAt(y);
  if (!l || x < view.gutter) return { lane: l };
  const near = 9 / view.plot * view.span, at = view.time(x);
  let best = null, distance = Infinity;
  for (let i = firstAfter(l.shown, at - near, (m) => m.at); i < l.shown.length && l.shown[i].at <= at + near; i++) {
    // Of marks at one place the one that is on top counts.
    const d = Math.abs(l.shown[i].at - at) / near * 9 - Math.min(shapes[l.shown[i].kind].weight, 6);
    if (d <= distance) {
      distance = d;
      best = l.shown[i];
    }
  }
  const over = (list) => {
    let top = null; // the last one that was drawn there
    for (let i = firstAfter(list, at, (b) => b.until); i < list.length && list[i].from <= at; i++) if (list[i].to >= at) top = list[i];
    return top;
  };
  return { lane: l, mark: best, step: over(l.steps), bar: over(l.bars) };
}

/** inView says which time is shown. */
export function inView(view) {
  const { base } = view.model;
  const from = base + view.from, to = base + view.to;
  const digits = view.span < 20e6 ? 3 : 0;
  const until = day(from) === day(to) ? clock(to, digits) : `${day(to)} ${clock(to, digits)}`;
  return `${day(from)} ${clock(from, digits)} – ${until} UTC`;
}
