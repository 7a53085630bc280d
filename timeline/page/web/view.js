// Which part of the time is shown, and where lanes lie.

const least = 20; // microseconds

export class View {
  constructor(model) {
    this.model = model;
    this.selected = null;
    this.width = 800;
    this.scroll = 0;
    this.height = 400;
    this.narrow = false;
    this.arrange();
    this.fit();
  }

  get gutter() { return this.narrow ? 0 : Math.min(260, Math.round(this.width * 0.22)); }
  /** plot is the width in which time passes. */
  get plot() { return Math.max(50, this.width - this.gutter); }
  get span() { return this.to - this.from; }
  get axis() { return 26; }
  /** head is the height of what does not scroll: the axis and the node's lane. */
  get head() { return this.axis + this.laneHeight; }
  get laneHeight() { return this.narrow ? 60 : 46; }

  x(at) { return this.gutter + (at - this.from) / this.span * this.plot; }
  time(x) { return this.from + (x - this.gutter) / this.plot * this.span; }

  /** arrange gives each lane its place below the head. */
  arrange() {
    this.model.order.forEach((l, i) => { l.place = i; });
    this.total = this.head + this.model.order.length * this.laneHeight + 6;
  }

  laneTop(l) { return l.kind === 'node' ? this.axis : this.head + l.place * this.laneHeight - this.scroll; }

  /** laneAt is the lane at a height of the canvas. */
  laneAt(y) {
    if (y < this.axis) return null;
    if (y < this.head) return this.model.lanes[0];
    return this.model.order[Math.floor((y - this.head + this.scroll) / this.laneHeight)] ?? null;
  }

  fit() { this.show(this.model.first, this.model.last); }

  /** show shows a range with some room around it. */
  show(first, last) {
    const room = Math.max(last - first, 1000);
    this.set(first - room * 0.03, last + room * 0.06);
  }

  set(from, to) {
    const { first, last, now } = this.model;
    const most = Math.max(last, now) - first;
    const room = Math.max(most, 1000) * 1.2;
    const span = Math.min(Math.max(to - from, least), room);
    const middle = (from + to) / 2;
    const edge = span * 0.5;
    const begin = Math.min(Math.max(middle - span / 2, first - edge), Math.max(last, now) + edge - span);
    this.from = begin;
    this.to = begin + span;
  }

  zoom(factor, around = this.from + this.span / 2) {
    const before = this.span;
    this.set(around - (around - this.from) * factor, around + (this.to - around) * factor);
    return this.span !== before;
  }

  pan(pixels) {
    const by = pixels / this.plot * this.span;
    this.set(this.from + by, this.to + by);
  }

  /** reveal moves as little as needed to show a mark, and returns the scroll that shows its lane. */
  reveal(mark) {
    const room = this.span * 0.08;
    if (mark.at < this.from + room || mark.at > this.to - room) this.set(mark.at - this.span / 2, mark.at + this.span / 2);
    if (mark.lane.kind === 'node') return this.scroll;
    const top = mark.lane.place * this.laneHeight;
    const seen = this.height - this.head;
    if (top >= this.scroll && top + this.laneHeight <= this.scroll + seen) return this.scroll;
    return Math.max(0, top - (seen - this.laneHeight) / 2);
  }
}
