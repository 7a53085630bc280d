package page

import (
	"fmt"
	"testing"
)

// timed notes how long the page's own work of each frame took.
const timed = `
globalThis.work = [];
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (draw) => request((now) => {
	const begun = performance.now();
	draw(now);
	work.push(performance.now() - begun);
});`

// pan moves the view with the pointer in each frame, to and fro, and returns the frames a
// second, the time between frames that 95 % were below, and the same of the page's own work.
const pan = `new Promise((done) => {
	const frames = %d, chart = document.getElementById('chart'), box = chart.getBoundingClientRect();
	const send = (type, x, y) => chart.dispatchEvent(new PointerEvent(type, { pointerId: 1, pointerType: 'mouse', button: 0, bubbles: true, clientX: box.left + x, clientY: box.top + y }));
	chart.setPointerCapture = () => {};
	%s
	const gaps = [];
	let n = 0, x = 700, last;
	const next = (now) => {
		// The first frames are those of a page that was just opened.
		if (n > 60) gaps.push(now - last);
		last = now;
		if (n++ === frames + 60) {
			send('pointerup', x, 150);
			const at95 = (list) => list.sort((a, b) => a - b)[Math.floor(list.length * 0.95)];
			const total = gaps.reduce((a, b) => a + b, 0);
			return done([1000 * gaps.length / total, at95(gaps), at95(work.slice(-frames))]);
		}
		x += n %% 120 < 60 ? 7 : -7;
		send('pointermove', x, 150 + n %% 40);
		requestAnimationFrame(next);
	};
	work.length = 0;
	send('pointerdown', x, 150);
	requestAnimationFrame(next);
})`

// BenchmarkPan measures frames while the view moves: with all in view, and near the end.
func BenchmarkPan(b *testing.B) {
	for _, events := range []int{5000, 50_000} {
		for name, before := range map[string]string{"all": "", "near": `for (const k of ['End', '+', '+', '+', '+', '+']) chart.dispatchEvent(new KeyboardEvent('keydown', { key: k }));`} {
			b.Run(fmt.Sprintf("events=%d/%s", events, name), func(b *testing.B) {
				p := open(b, look{page: fmt.Sprintf("node-%d", events), before: timed})
				got := ask[[]float64](p, fmt.Sprintf(pan, max(b.N, 30), before))
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(got[0], "frames/s")
				b.ReportMetric(got[1], "p95-frame-ms")
				b.ReportMetric(got[2], "p95-work-ms")
			})
		}
	}
}
