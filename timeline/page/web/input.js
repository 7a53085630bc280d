// Pointers, the wheel and keys on the chart.
import { hit } from './draw.js';
import { hint } from './detail.js';

/** pointers lets the chart be moved, zoomed and clicked; app is what main.js makes. */
export function pointers(app) {
  const { chart, view } = app;
  const tip = document.getElementById('tip');
  const down = new Map();
  let moved = false, range = null;
  const place = (e) => {
    const box = chart.getBoundingClientRect();
    return [e.clientX - box.left - chart.clientLeft, e.clientY - box.top - chart.clientTop];
  };
  const inside = (x, y) => x < chart.clientWidth && y < chart.clientHeight;

  chart.addEventListener('pointerdown', (e) => {
    const [x, y] = place(e);
    if (e.button !== 0 || !inside(x, y)) return;
    chart.setPointerCapture(e.pointerId);
    down.set(e.pointerId, [x, y]);
    moved = false;
    range = down.size === 1 && x >= view.gutter && (y < view.axis || e.shiftKey) ? [x, x] : null;
    tip.hidden = true;
  });

  chart.addEventListener('pointermove', (e) => {
    const [x, y] = place(e);
    const before = down.get(e.pointerId);
    if (!before) {
      hover(e, x, y);
      return;
    }
    if (Math.abs(x - before[0]) + Math.abs(y - before[1]) > 3) moved = true;
    if (!moved) return;
    down.set(e.pointerId, [x, y]);
    chart.classList.add('dragging');
    if (range) {
      range[1] = x;
      app.range = range;
    } else if (down.size === 2) {
      pinch(e.pointerId, before[0], x);
    } else {
      view.pan(before[0] - x);
      if (e.pointerType === 'mouse') chart.scrollTop -= y - before[1];
    }
    app.changed();
  });

  const pinch = (id, was, is) => {
    const [other] = [...down].find(([key]) => key !== id)[1];
    const wide = Math.abs(is - other), before = Math.abs(was - other);
    if (wide > 10 && before > 10) view.zoom(before / wide, view.time(other));
  };

  const up = (e) => {
    if (!down.delete(e.pointerId)) return;
    chart.classList.remove('dragging');
    const [x, y] = place(e);
    if (range && moved) {
      const [a, b] = [Math.min(...range), Math.max(...range)];
      if (b - a > 4) view.set(view.time(a), view.time(b));
    } else if (!moved && e.type === 'pointerup') {
      const found = hit(view, x, y);
      const mark = found.mark ?? (found.bar && found.lane.shown.find((m) => m.subject === found.bar.subject && m.at >= found.bar.from));
      if (mark) app.select(mark, { move: false });
    }
    range = app.range = null;
    app.changed();
  };
  chart.addEventListener('pointerup', up);
  chart.addEventListener('pointercancel', up);
  chart.addEventListener('pointerleave', () => { tip.hidden = true; });

  chart.addEventListener('dblclick', (e) => {
    const { lane, mark } = hit(view, ...place(e));
    if (!mark && lane && lane.shown.length > 0) {
      view.show(lane.shown[0].at, lane.shown[lane.shown.length - 1].at);
      app.changed();
    }
  });

  chart.addEventListener('wheel', (e) => {
    const [x] = place(e);
    if (x < view.gutter && !e.ctrlKey) return;
    const unit = e.deltaMode === 1 ? 16 : 1;
    if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
      view.pan((e.deltaX || e.deltaY) * unit);
    } else if (!view.zoom(Math.exp(Math.max(-200, Math.min(200, e.deltaY * unit)) * (e.ctrlKey ? 0.01 : 0.002)), view.time(x)) && !e.ctrlKey) {
      return; // all is shown: the page scrolls
    }
    e.preventDefault();
    tip.hidden = true;
    app.changed();
  }, { passive: false });

  const hover = (e, x, y) => {
    const found = inside(x, y) ? hit(view, x, y) : {};
    chart.classList.toggle('pointing', Boolean(found.mark));
    chart.classList.toggle('ranging', y < view.axis && x >= view.gutter);
    tip.hidden = e.pointerType === 'touch' || !hint(view.model, found, tip);
    if (tip.hidden) return;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(e.clientX + 14, window.innerWidth - width - 4))}px`;
    tip.style.top = `${e.clientY + 18 + height < window.innerHeight ? e.clientY + 18 : Math.max(4, e.clientY - height - 12)}px`;
  };
}

/** keys lets the chart be used without a pointer. */
export function keys(app) {
  const { view } = app;
  const actions = {
    ArrowLeft: (shift) => shift ? view.pan(-view.plot / 4) : app.step(-1),
    ArrowRight: (shift) => shift ? view.pan(view.plot / 4) : app.step(1),
    ArrowUp: () => app.jump(-1),
    ArrowDown: () => app.jump(1),
    Home: () => app.select(view.model.shown[0]),
    End: () => app.select(view.model.shown[view.model.shown.length - 1]),
    n: () => app.problem(1),
    p: () => app.problem(-1),
    '+': () => view.zoom(0.5, app.focus()),
    '=': () => view.zoom(0.5, app.focus()),
    '-': () => view.zoom(2, app.focus()),
    0: () => view.fit(),
    Enter: () => app.read(),
  };
  app.chart.addEventListener('keydown', (e) => {
    if (e.ctrlKey || e.altKey || e.metaKey || !Object.hasOwn(actions, e.key)) return;
    e.preventDefault();
    actions[e.key](e.shiftKey);
    app.changed();
  });
}
