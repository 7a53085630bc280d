// Times and durations as people read them. Times are microseconds since 1970, in UTC.

const pad = (n, digits) => String(n).padStart(digits, '0');

/** split is a time's date, and its microseconds within the second. */
function split(at) {
  const whole = Math.floor(at);
  const micros = ((whole % 1e6) + 1e6) % 1e6;
  return [new Date((whole - micros) / 1000), micros];
}

const months = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];

export function day(at) {
  const [d] = split(at);
  return `${d.getUTCDate()} ${months[d.getUTCMonth()]} ${d.getUTCFullYear()}`;
}

/** clock is the time of the day with as many digits of a second: 0, 3 or 6; -1 for none. */
export function clock(at, digits = 3) {
  const [d, micros] = split(at);
  const minutes = `${pad(d.getUTCHours(), 2)}:${pad(d.getUTCMinutes(), 2)}`;
  if (digits < 0) return minutes;
  const seconds = `${minutes}:${pad(d.getUTCSeconds(), 2)}`;
  return digits === 0 ? seconds : `${seconds}.${pad(micros, 6).slice(0, digits)}`;
}

/** took is a duration in microseconds: three digits at most. */
export function took(micros) {
  const ms = Math.max(0, micros) / 1000;
  const short = (x) => x.toFixed(1).replace(/\.0$/, '');
  if (ms < 0.05) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${short(ms)} ms`;
  if (ms < 1000) return `${Math.floor(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${short(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s) % 60} s`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} days`;
}

const second = 1e6, minute = 60 * second, hour = 60 * minute, whole = 24 * hour;
const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500].flatMap((n) => [n, n * 1000]).sort((a, b) => a - b).concat([
  second, 2 * second, 5 * second, 10 * second, 30 * second, minute, 2 * minute, 5 * minute, 10 * minute, 30 * minute,
  hour, 2 * hour, 6 * hour, 12 * hour, whole, 2 * whole, 7 * whole, 30 * whole, 90 * whole, 365 * whole]);

/** ticks are the axis's: times with labels, at least so many microseconds apart. */
export function ticks(from, to, apart) {
  const step = steps.find((s) => s >= apart) ?? 365 * whole;
  const label = (at) => {
    if (step >= whole || at % whole === 0) return day(at).replace(/^(\d+ \w{3})\w* (\d+)$/, step >= 30 * whole ? '$1 $2' : '$1');
    if (step >= minute) return clock(at, -1);
    return clock(at, step >= second ? 0 : step >= 1000 ? 3 : 6);
  };
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push([at, label(at)]);
  return found;
}
