// Each kind of mark has a shape of its own, so that nobody needs its colour. Paths are around
// 0,0 and 14 wide.

const circle = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
const octagon = 'M-3 -7H3L7 -3V3L3 7H-3L-7 3V-3z';
const hexagon = 'M-7 0L-3.5 -6H3.5L7 0L3.5 6H-3.5z';
const cross = 'M-6.5 -4.2L-4.2 -6.5L0 -2.3L4.2 -6.5L6.5 -4.2L2.3 0L6.5 4.2L4.2 6.5L0 2.3L-4.2 6.5L-6.5 4.2L-2.3 0z';

/** shapes: the path, the colour's variable, hollow or filled, how much it matters, the legend's
 * words, and words for where there is no room for the event's own. */
export const shapes = {
  event: { path: circle(2.5), color: '--muted', weight: 0, says: 'event' },
  gap: { path: 'M-7 -2H-4V2H-7zM-1.5 -2H1.5V2H-1.5zM4 -2H7V2H4z', color: '--muted', weight: 1, says: 'events dropped from the log', brief: ['dropped'] },
  started: { path: 'M-4 -6L6 0L-4 6z', color: '--running-edge', weight: 0, says: 'started, ready' },
  completed: { path: circle(5), color: '--running-edge', hollow: true, weight: 1, says: 'completed' },
  ended: { path: 'M-5 -5H5V5H-5z', color: '--muted', weight: 2, says: 'ended as asked' },
  killed: { path: 'M-3 -7H3V0H7L0 7L-7 0H-3z', color: '--ending-edge', weight: 1, says: 'SIGKILL', brief: ['SIGKILL'] },
  failed: { path: 'M0 -7L7.5 6H-7.5z', color: '--bad', weight: 4, says: 'failed' },
  lost: { path: 'M0 -7L7 0L0 7L-7 0z', color: '--bad', hollow: true, weight: 5, says: 'lost, end unknown' },
  exited: { path: cross, color: '--bad', weight: 6, says: 'died' },
  oom: { path: octagon, color: '--bad', weight: 7, says: 'out of memory', brief: ['out of memory', 'OOM'] },
  daemon: { path: 'M-5 -5H5V5H-5z', color: '--accent', hollow: true, line: [6, 4], weight: 3, says: 'daemon' },
  'daemon crashed': { path: 'M-6 -6H6V6H-6z', color: '--bad', line: [6, 4], weight: 5, says: 'daemon crashed' },
  monitor: { path: hexagon, color: '--accent', hollow: true, line: [2, 3], weight: 3, says: 'monitor' },
  'monitor lost': { path: hexagon, color: '--bad', line: [2, 3], weight: 5, says: 'monitor lost' },
  reboot: { path: 'M-7 -7H7L0 7z', color: '--bad', line: [], weight: 8, says: 'node rebooted' },
};

const drawn = {};

/** shapePath is a kind's shape for a canvas. */
export function shapePath(kind) {
  return drawn[kind] ??= new Path2D(shapes[kind].path);
}

/** legend fills a list with the shapes that occur. */
export function legend(list, kinds) {
  const svg = 'http://www.w3.org/2000/svg';
  for (const [kind, shape] of Object.entries(shapes)) {
    if (!kinds.has(kind)) continue;
    const item = document.createElement('li');
    const picture = document.createElementNS(svg, 'svg');
    picture.setAttribute('viewBox', '-8 -8 16 16');
    picture.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(svg, 'path');
    path.setAttribute('d', shape.path);
    path.style.fill = shape.hollow ? 'none' : `var(${shape.color})`;
    path.style.stroke = `var(${shape.color})`;
    path.style.strokeWidth = '1.8';
    picture.append(path);
    item.append(picture, shape.says);
    list.append(item);
  }
}
