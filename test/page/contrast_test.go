package page

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// readable lets a test read the canvas without a complaint of the browser.
const readable = `
const context = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind) { return context.call(this, kind, { willReadFrequently: true }); };`

// onCanvas notes each text that is drawn, with its contrast: of the worst of some points below
// it, for names lie on patterns, too.
const onCanvas = readable + `
globalThis.drawn = new Map();
const draw = CanvasRenderingContext2D.prototype.fillText;
const lightness = ([r, g, b]) => {
	const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
globalThis.contrast = (a, b) => {
	const [x, y] = [lightness(a), lightness(b)].sort((p, q) => q - p);
	return (x + 0.05) / (y + 0.05);
};
globalThis.rgb = (color) => {
	const c = new OffscreenCanvas(1, 1).getContext('2d');
	c.fillStyle = color;
	c.fillRect(0, 0, 1, 1);
	return [...c.getImageData(0, 0, 1, 1).data];
};
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
	const width = Math.min(this.measureText(text).width, this.canvas.width - x - 1);
	const ink = rgb(this.fillStyle);
	let worst = 99;
	for (let i = 0; i <= 20 && width > 0; i++) {
		for (const by of [-4, 0, 4]) {
			const at = [Math.max(0, Math.round(x + width * i / 20)), Math.max(0, Math.round(y + by))];
			const below = this.getImageData(at[0], at[1], 1, 1).data;
			if (below[3] === 255) worst = Math.min(worst, contrast(ink, below)); // else it is beyond the edge
		}
	}
	if (!(drawn.get(text) < worst)) drawn.set(text, worst);
	draw.call(this, text, x, y);
};`

// lowContrast lists texts below 4.5:1: of elements, and of what was drawn.
const lowContrast = `(() => {
	const low = [];
	const background = (e) => {
		for (; e; e = e.parentElement) {
			const color = rgb(getComputedStyle(e).backgroundColor);
			if (color[3] === 255) return color;
		}
		return [255, 255, 255, 255];
	};
	let texts = 0;
	const check = (e, style, text) => {
		texts++;
		const ratio = contrast(rgb(style.color), background(e));
		if (ratio < 4.5) low.push(text.trim().slice(0, 40) + ': ' + ratio.toFixed(2));
	};
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (walk.currentNode.textContent.trim() === '' || !e.checkVisibility() || e.matches('script, noscript, button:disabled')) continue;
		check(e, getComputedStyle(e), walk.currentNode.textContent);
	}
	for (const e of document.querySelectorAll('[placeholder]')) check(e, getComputedStyle(e, '::placeholder'), e.placeholder);
	for (const e of document.querySelectorAll('.word, #detail .bad')) check(e, getComputedStyle(e, '::before'), 'sign before ' + e.textContent);
	for (const [text, ratio] of drawn) {
		texts++;
		if (ratio < 4.5) low.push('drawn ' + text.slice(0, 40) + ': ' + ratio.toFixed(2));
	}
	return [String(texts), ...low];
})()`

// lowShapes lists shapes and edges below 3:1 on what they lie on.
const lowShapes = `(() => {
	const style = getComputedStyle(document.documentElement);
	const color = (name) => rgb(style.getPropertyValue(name));
	const low = [];
	for (const [of, on] of [['--bad', '--surface'], ['--bad', '--raised'], ['--accent', '--surface'], ['--accent', '--raised'], ['--muted', '--surface'], ['--past', '--surface'],
		['--past', '--raised'], ['--running-edge', '--surface'], ['--creating-edge', '--surface'], ['--ending-edge', '--surface'], ['--running-edge', '--running'],
		['--creating-edge', '--creating'], ['--ending-edge', '--ending'], ['--step', '--surface'], ['--bad', '--running'], ['--bad', '--ending'], ['--muted', '--running']]) {
		const ratio = contrast(color(of), color(on));
		if (ratio < 3) low.push(of + ' on ' + on + ': ' + ratio.toFixed(2));
	}
	return low;
})()`

// TestContrast: all text, in the document and on the canvas, has 4.5:1, and shapes 3:1.
func TestContrast(t *testing.T) {
	for _, name := range everywhere {
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 390} {
				t.Run(fmt.Sprintf("%s-%d-%t", name, width, dark), func(t *testing.T) {
					p := open(t, look{page: name, dark: dark, width: width, height: 900, before: onCanvas})
					p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
					p.key("n", "+", "+", "+", "+", "+", "+")
					p.key(kb.Home, "+", "+", "0")
					ask[bool](p, `document.querySelectorAll('details').forEach((d) => { d.open = true; }) ?? true`)
					got := ask[[]string](p, lowContrast)
					if len(got) > 1 {
						t.Errorf("below 4.5:1 are %q", got[1:])
					}
					if len(got[0]) < 2 {
						t.Errorf("only %s texts were looked at", got[0])
					}
					if low := ask[[]string](p, lowShapes); len(low) > 0 {
						t.Errorf("below 3:1 are %q", low)
					}
				})
			}
		}
	}
}
