// The document's data as lanes with bars, steps and marks, and the filter.
import { clock, day } from './format.js';

/** read makes the model; see the Go type document for what stands where. */
export function read(doc) {
  const text = (i) => doc.strings[i];
  const lanes = doc.lanes.map((l, index) => ({ ...l, index, bars: [], steps: [], marks: [], shown: [], children: [], path: l.name }));
  for (const l of lanes) {
    if (l.parent < 0) continue;
    lanes[l.parent].children.push(l);
    l.path = `${lanes[l.parent].name}/${l.name}`;
  }
  const subjects = doc.subjects.map((s, index) => ({ ...s, index, lane: lanes[s.lane], bars: [], steps: [] }));
  for (const [of, from, to, name] of doc.bars) {
    const bar = { subject: subjects[of], from, to, name: text(name) };
    bar.subject.lane.bars.push(bar);
    bar.subject.bars.push(bar);
  }
  for (const [of, from, length, name, state] of doc.steps) {
    const step = { subject: subjects[of], from, to: from + length, name: text(name), state };
    step.subject.lane.steps.push(step);
    step.subject.steps.push(step);
  }
  const marks = doc.marks.map(([of, at, sequence, kind, words, event, command, call, trace, since, bad]) => {
    const mark = {
      subject: subjects[of], lane: subjects[of].lane, at, sequence, kind: text(kind), words: text(words), event: text(event),
      command: text(command), call: text(call), trace: text(trace), since, bad: bad === 1, index: -1,
    };
    mark.lane.marks.push(mark);
    return mark;
  });
  for (const l of lanes) {
    for (const list of [l.bars, l.steps]) {
      list.sort((a, b) => a.from - b.from);
      let until = -Infinity;
      // The latest end so far: what is before a time can be skipped by a binary search.
      for (const x of list) x.until = until = Math.max(until, x.to);
    }
  }
  const first = Math.min(0, marks.length ? marks[0].at : 0);
  const last = marks.length ? marks[marks.length - 1].at : 0;
  return { base: doc.base, now: doc.now, usual: doc.usual, lanes, subjects, marks, first, last, shown: [], order: [] };
}

/** filter leaves the marks and lanes in which the text, if any, occurs. */
export function filter(model, wanted, problems) {
  const text = wanted.trim().toLowerCase();
  const all = text === '' && !problems;
  const answers = new Map();
  const has = (s) => {
    if (!answers.has(s)) answers.set(s, s.toLowerCase().includes(text));
    return answers.get(s);
  };
  for (const l of model.lanes) {
    const named = has(l.path);
    l.shown = named && !problems ? l.marks : l.marks.filter((m) => (!problems || m.bad) && (named || has(m.words) || has(m.event)));
  }
  const kept = (l) => all || l.shown.length > 0;
  model.order = [];
  for (const l of model.lanes) {
    if (l.kind === 'node' || l.parent >= 0) continue;
    const children = l.children.filter(kept);
    if (kept(l) || children.length > 0) model.order.push(l, ...children);
  }
  for (const m of model.marks) m.index = -1;
  for (const l of model.lanes) for (const m of l.shown) m.index = 0;
  model.shown = model.marks.filter((m) => m.index === 0);
  model.shown.forEach((m, i) => { m.index = i; });
}

/** label is what a mark says to somebody who does not see it. */
export function label(model, mark) {
  const at = model.base + mark.at;
  const attempt = mark.subject.attempt > 0 ? ` (attempt ${mark.subject.attempt})` : '';
  return `${mark.bad ? 'Problem: ' : ''}${mark.words}; ${mark.subject.of}${attempt}, ${day(at)} ${clock(at)} UTC`;
}

/** firstAfter is the index of the first element whose key is at least the value. */
export function firstAfter(list, value, key) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(list[middle]) < value) low = middle + 1; else high = middle;
  }
  return low;
}
