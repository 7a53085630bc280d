// One event in words, with its record folded.
import { clock, day, took } from './format.js';

/** element makes an element with text or children; texts are never parsed as HTML. */
export function element(name, properties, ...children) {
  const e = Object.assign(document.createElement(name), properties);
  e.append(...children);
  return e;
}

function list(pairs) {
  const dl = element('dl');
  for (const [term, said] of pairs) {
    if (said !== '' && said !== undefined) dl.append(element('dt', { textContent: term }), element('dd', {}, said));
  }
  return dl;
}

/** detail shows a mark. */
export function detail(model, mark, into) {
  const { subject } = mark;
  const since = mark.since > 0 ? `, ${took(mark.since)} since the request or incident that led to it` : '';
  const attempt = subject.attempt > 0 ? `, attempt ${subject.attempt}` : '';
  const starts = subject.steps.map((s) => {
    const usual = model.usual[s.name];
    const beside = usual ? ` (half of the node's took at most ${took(usual[0])}, 95 % at most ${took(usual[1])})` : '';
    return element('div', { textContent: `${s.name}: ${['', 'failed after ', 'not done for '][s.state]}${took(s.to - s.from)}${beside}` });
  });
  const lives = subject.bars.map((b) => element('div', { textContent: `${b.name} for ${took(b.to - b.from)} from ${clock(model.base + b.from)}` }));
  const code = (textContent) => element('code', { textContent });
  into.replaceChildren(
    element('p', { className: mark.bad ? 'words bad' : 'words', textContent: mark.words }),
    element('p', { textContent: `${day(model.base + mark.at)} ${clock(model.base + mark.at, 3)} UTC${since}` }),
    list([['Of', subject.of + attempt], ['Image', subject.image], ['CRI call', mark.call], ['Trace', mark.trace && code(mark.trace)]]),
    ...(starts.length + lives.length > 0 ? [element('details', {}, element('summary', { textContent: 'Phases and steps of its life' }), list([
      ['Steps', starts.length > 0 ? element('div', {}, ...starts) : ''], ['Phases', lives.length > 0 ? element('div', {}, ...lives) : '']]))] : []),
    element('details', {}, element('summary', { textContent: 'Raw record' }), list([
      ['Sequence', code(String(mark.sequence))], ['Stream', code(subject.stream)], ['Event', code(mark.event)], ['Command', mark.command && code(mark.command)],
      ['Time', code(`${new Date((model.base + mark.at) / 1000).toISOString().slice(0, 19)}.${clock(model.base + mark.at, 6).slice(-6)}Z`)]])),
  );
}

/** hint fills the tip for what lies below the pointer, and reports whether there is anything. */
export function hint(model, found, into) {
  const { mark, step, bar } = found;
  if (mark) {
    into.replaceChildren(element('div', { className: 'when', textContent: `${clock(model.base + mark.at)} UTC` }), element('div', { textContent: mark.words }));
  } else if (step) {
    into.replaceChildren(element('div', { textContent: `step “${step.name}”: ${['', 'failed after ', 'not done for '][step.state]}${took(step.to - step.from)}` }));
  } else if (bar) {
    const attempt = bar.subject.attempt > 0 ? ` (attempt ${bar.subject.attempt})` : '';
    into.replaceChildren(element('div', { textContent: `${bar.name}${attempt} for ${took(bar.to - bar.from)}` }));
  }
  return Boolean(mark || step || bar);
}
