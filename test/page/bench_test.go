package page

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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

// spent is the CPU time of all processes of the browser, which draws in several: also on a busy
// machine it says what a frame costs.
func spent(b *testing.B) (total time.Duration) {
	b.Helper()
	parents, used := map[int]int{}, map[int]time.Duration{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	const tick = 10 * time.Millisecond
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		parents[pid], used[pid] = parent, time.Duration(user+system)*tick
	}
	ours := []int{os.Getpid()}
	for i := 0; i < len(ours); i++ {
		for pid, parent := range parents {
			if parent == ours[i] && !slices.Contains(ours, pid) {
				ours = append(ours, pid)
				total += used[pid]
			}
		}
	}
	return total
}

// BenchmarkPan measures frames while the view moves: with all in view, and near the end.
func BenchmarkPan(b *testing.B) {
	for _, events := range []int{5000, 50_000} {
		for name, before := range map[string]string{"all": "", "near": `for (const k of ['End', '+', '+', '+', '+', '+']) chart.dispatchEvent(new KeyboardEvent('keydown', { key: k }));`} {
			b.Run(fmt.Sprintf("events=%d/%s", events, name), func(b *testing.B) {
				p := open(b, look{page: fmt.Sprintf("node-%d", events), before: timed})
				began, frames := spent(b), max(b.N, 30)
				got := ask[[]float64](p, fmt.Sprintf(pan, frames, before))
				b.ReportMetric(float64((spent(b)-began).Microseconds())/1000/float64(frames+60), "cpu-ms/frame")
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(got[0], "frames/s")
				b.ReportMetric(got[1], "p95-frame-ms")
				b.ReportMetric(got[2], "p95-work-ms")
			})
		}
	}
}
