package page

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var everywhere = []string{"oom", "network", "reboot", "pull", "hostile", "node", "quiet", "gap"}

// key presses keys, one after the other.
func (p *tab) key(keys ...string) {
	p.Helper()
	for _, k := range keys {
		p.do(chromedp.KeyEvent(k))
	}
	p.frames(2)
}

// current is the event that a screen reader has on the chart.
type current struct {
	Role, Words, Detail string
	At, Of              int
}

func (p *tab) current() current {
	p.Helper()
	return ask[current](p, `(() => {
		const chart = document.getElementById('chart');
		const e = document.getElementById(chart.getAttribute('aria-activedescendant'));
		return { Role: e?.getAttribute('role') ?? '', Words: e?.textContent ?? '', Detail: document.querySelector('#detail .words')?.textContent ?? '',
			At: Number(e?.getAttribute('aria-posinset')), Of: Number(e?.getAttribute('aria-setsize')) };
	})()`)
}

func (p *tab) text(selector string) string {
	p.Helper()
	return ask[string](p, fmt.Sprintf(`document.querySelector(%q)?.textContent ?? ''`, selector))
}

// TestEveryMarkHasALabel: the keys lead to each event, and each says what happened, to what and
// when.
func TestEveryMarkHasALabel(t *testing.T) {
	for _, name := range everywhere {
		p := open(t, look{page: name})
		p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
		p.key(kb.Home)
		first := p.current()
		if first.Of < 5 {
			t.Fatalf("%s: the first event says %+v", name, first)
		}
		words := ask[[]string](p, `JSON.parse(document.getElementById('data').textContent).marks.map((m, _, all) => JSON.parse(document.getElementById('data').textContent).strings[m[4]])`)
		most := min(first.Of, 120)
		for i := range most {
			c := p.current()
			if c.Role != "option" || c.At != i+1 || c.Of != len(words) || !strings.Contains(c.Words, words[i]) || !strings.HasSuffix(c.Words, " UTC") || c.Detail != words[i] {
				t.Errorf("%s: event %d of %d is labelled %+v, want its words %q", name, i+1, len(words), c, words[i])
			}
			p.do(chromedp.KeyEvent(kb.ArrowRight))
		}
	}
}

// TestGap: the keys lead to where events are not in the log any more, which says so in words, and the
// legend has its shape.
func TestGap(t *testing.T) {
	const says = "3,212 records were dropped: of what was over and leaves no trace"
	p := open(t, look{page: "gap"})
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	p.key(kb.Home)
	for range p.current().Of {
		if strings.Contains(p.current().Words, says) {
			break
		}
		p.do(chromedp.KeyEvent(kb.ArrowRight))
	}
	if c := p.current(); !strings.HasPrefix(c.Words, says) || c.Detail != says || !strings.Contains(c.Words, "container ") {
		t.Errorf("the gap says %+v", c)
	}
	if legend := p.text("#legend"); !strings.Contains(legend, "events dropped from the log") {
		t.Errorf("the legend says %q", legend)
	}
	whole := open(t, look{page: "oom"})
	if legend := whole.text("#legend"); strings.Contains(legend, "dropped") {
		t.Errorf("without a gap the legend says %q", legend)
	}
}

// TestNamed: whatever can be used has a name in the tree that screen readers get, and no id is
// there twice.
func TestNamed(t *testing.T) {
	for _, name := range everywhere {
		p := open(t, look{page: name})
		p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
		p.key(kb.End)
		tree, err := chromedp.Call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, node := range tree.Nodes {
			if node.Ignored || node.Role == nil {
				continue
			}
			role := strings.Trim(string(node.Role.Value), `"`)
			seen[role]++
			said := ""
			if node.Name != nil {
				said = strings.Trim(string(node.Name.Value), `"`)
			}
			switch role {
			case "button", "searchbox", "textbox", "checkbox", "listbox", "option", "table", "region", "heading", "navigation", "columnheader":
				if said == "" && role != "table" {
					t.Errorf("%s: a %s has no name", name, role)
				}
			}
		}
		for role, least := range map[string]int{"listbox": 1, "option": 1, "table": 1, "heading": 3, "button": 8, "searchbox": 1, "checkbox": 1} {
			if seen[role] < least {
				t.Errorf("%s has %d of the role %s, want %d: %v", name, seen[role], role, least, seen)
			}
		}
		twice := ask[[]string](p, `[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i)`)
		if len(twice) > 0 {
			t.Errorf("%s has the ids %q twice", name, twice)
		}
	}
}

func TestKeys(t *testing.T) {
	p := open(t, look{page: "oom"})
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	span := func() string { return p.text("#range") }
	p.key("n")
	if c := p.current(); !strings.Contains(c.Words, "out of memory") || !strings.HasPrefix(c.Words, "Problem: ") {
		t.Errorf("the first problem is %+v", c)
	}
	p.key("n", "n", "n", "p")
	if c := p.current(); !strings.Contains(c.Words, "attempt 2") {
		t.Errorf("after three problems and one back: %+v", c)
	}
	p.key(kb.ArrowUp)
	if c := p.current(); !strings.Contains(c.Words, "container proxy") {
		t.Errorf("above web is %+v", c)
	}
	p.key(kb.ArrowDown, kb.ArrowDown)
	if c := p.current(); !strings.Contains(c.Words, "image registry") {
		t.Errorf("below web is %+v", c)
	}
	all := span()
	p.key("+")
	near := span()
	p.key("-")
	back := span()
	p.key("+", "+", "0")
	if near == all || back == near || span() != all {
		t.Errorf("the view was %s, then %s, %s and %s", all, near, back, span())
	}
	p.key(kb.Enter)
	if on := ask[string](p, `document.activeElement.id`); on != "detail" {
		t.Errorf("Enter leads to %q", on)
	}
	p.key(kb.Escape)
	if on := ask[string](p, `document.activeElement.id`); on != "chart" {
		t.Errorf("Escape leads to %q", on)
	}
	p.key(kb.End)
	if c := p.current(); c.At != c.Of {
		t.Errorf("End leads to %+v", c)
	}
}

// mouse sends the pointer along places of the chart, seen from its corner.
func (p *tab) mouse(kind input.DispatchMouseEventType, x, y float64, more ...chromedp.MouseOption) {
	p.Helper()
	box := ask[[]float64](p, `(() => { const b = document.getElementById('chart').getBoundingClientRect(); return [b.left, b.top]; })()`)
	p.do(chromedp.MouseEvent(kind, box[0]+x, box[1]+y, more...))
}

func (p *tab) drag(fromX, fromY, toX, toY float64) {
	p.Helper()
	p.mouse(input.DispatchMouseEventTypeMousePressed, fromX, fromY, chromedp.ButtonLeft, chromedp.ClickCount(1))
	for i := 1.0; i <= 4; i++ {
		p.mouse(input.DispatchMouseEventTypeMouseMoved, fromX+(toX-fromX)*i/4, fromY+(toY-fromY)*i/4, chromedp.ButtonLeft)
	}
	p.mouse(input.DispatchMouseEventTypeMouseReleased, toX, toY, chromedp.ButtonLeft, chromedp.ClickCount(1))
	p.frames(2)
}

// shown is the view's length in seconds, as the page says it.
func (p *tab) shown() float64 {
	p.Helper()
	text := p.text("#range")
	_, last, _ := strings.Cut(text, "UTC, ")
	number, unit, _ := strings.Cut(last, " ")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || unit != "s" {
		p.Fatalf("the view is %q", text)
	}
	return n
}

func TestPointer(t *testing.T) {
	p := open(t, look{page: "oom"})
	p.do(chromedp.ScrollIntoView(chromedp.CSS(`#chart`)))
	all, begin := p.shown(), p.text("#range")
	p.drag(700, 100, 500, 100)
	if p.shown() != all || p.text("#range") == begin {
		t.Errorf("after moving, %s became %s", begin, p.text("#range"))
	}
	p.do(chromedp.Click(chromedp.CSS(`#fit`)))
	p.frames(2)
	p.drag(400, 10, 700, 10)
	if got := p.shown(); got < all*0.2 || got > all*0.4 {
		t.Errorf("along the axis 300 of 970 pixels were dragged, and %g s became %g s", all, got)
	}
	p.do(chromedp.Click(chromedp.CSS(`#fit`)))
	wheel := func(by float64) float64 {
		p.mouse(input.DispatchMouseEventTypeMouseWheel, 700, 100, func(e *input.DispatchMouseEventParams) { e.DeltaX, e.DeltaY = 1e-9, by }) // zero would not be sent
		p.frames(4)
		return p.shown()
	}
	near := wheel(-200)
	if back := wheel(100); near >= all || back <= near {
		t.Errorf("the wheel made of %g s %g s, and then %g s", all, near, back)
	}
	p.do(chromedp.Click(chromedp.CSS(`#fit`)))
	p.frames(2)
	// The pointer finds the last OOM kill in web's lane, and a click shows it.
	found := false
	for x := 1200.0; x > 800 && !found; x -= 5 {
		p.mouse(input.DispatchMouseEventTypeMouseMoved, x, 178)
		found = strings.Contains(p.text("#tip"), "out of memory") && ask[bool](p, `!document.getElementById('tip').hidden`)
		if found {
			p.mouse(input.DispatchMouseEventTypeMousePressed, x, 178, chromedp.ButtonLeft, chromedp.ClickCount(1))
			p.mouse(input.DispatchMouseEventTypeMouseReleased, x, 178, chromedp.ButtonLeft, chromedp.ClickCount(1))
		}
	}
	p.frames(2)
	if got := p.text("#detail"); !found || !strings.Contains(got, "killed by SIGKILL (exit code 137), out of memory") || !strings.Contains(got, "attempt 4") || !strings.Contains(got, "ContainerExited") {
		t.Errorf("found %t, and the click showed %q", found, got)
	}
	if open := ask[int](p, `document.querySelectorAll('#detail details[open]').length`); open != 0 {
		t.Error("the raw record is not folded")
	}
}

// TestTouch: on a narrow screen one finger moves the view, two zoom, and a tap shows an event.
func TestTouch(t *testing.T) {
	p := open(t, look{page: "oom", width: 390, height: 900})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
	box := ask[[]float64](p, `(() => { document.getElementById('chart').scrollIntoView({ block: 'center' }); const b = document.getElementById('chart').getBoundingClientRect(); return [b.left, b.top]; })()`)
	touch := func(kind input.DispatchTouchEventType, points ...[2]float64) {
		t.Helper()
		var at []*input.TouchPoint
		for i, xy := range points {
			at = append(at, &input.TouchPoint{X: box[0] + xy[0], Y: box[1] + xy[1], ID: new(float64(i + 1))})
		}
		call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: kind, TouchPoints: at})
	}
	const start, move, lift = input.DispatchTouchEventTypeTouchStart, input.DispatchTouchEventTypeTouchMove, input.DispatchTouchEventTypeTouchEnd
	all, begin := p.shown(), p.text("#range")
	touch(start, [2]float64{300, 100})
	for x := 280.0; x > 180; x -= 20 {
		touch(move, [2]float64{x, 100})
	}
	touch(lift)
	p.frames(2)
	if p.shown() != all || p.text("#range") == begin {
		t.Errorf("after a finger moved, %s became %s", begin, p.text("#range"))
	}
	touch(start, [2]float64{150, 100}, [2]float64{200, 100})
	for by := 10.0; by <= 80; by += 10 {
		touch(move, [2]float64{150 - by, 100}, [2]float64{200 + by, 100})
	}
	touch(lift)
	p.frames(2)
	if near := p.shown(); near > all/2 {
		t.Errorf("two fingers made of %g s %g s", all, near)
	}
	p.do(chromedp.Click(chromedp.CSS(`#fit`)))
	p.frames(2)
	found := false
	for x := 375.0; x > 300 && !found; x -= 4 {
		touch(start, [2]float64{x, 240})
		touch(lift)
		p.frames(1)
		found = strings.Contains(p.text("#detail .words"), "out of memory")
	}
	if !found {
		t.Errorf("taps show %q", p.text("#detail .words"))
	}
}

// TestEmpty: a log without events has a page, too.
func TestEmpty(t *testing.T) {
	p := open(t, look{page: "empty"})
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	p.key(kb.ArrowRight, kb.ArrowUp, kb.End, "n", "+", "0", kb.Enter)
	p.mouse(input.DispatchMouseEventTypeMouseMoved, 600, 40)
	if got := p.text("#page"); got != "There is no event." || !strings.Contains(p.text(".verdict"), "Nothing in these records") {
		t.Errorf("the page says %q", got)
	}
}

func TestShowIt(t *testing.T) {
	for name, want := range map[string]string{"oom": "out of memory", "network": "no address left", "reboot": "the node was rebooted", "pull": "pulled, 300 MiB"} {
		p := open(t, look{page: name})
		p.do(chromedp.Click(chromedp.CSS(`.go`)))
		p.frames(2)
		if c := p.current(); !strings.Contains(c.Words, want) || !strings.Contains(p.text("#rows tr[aria-current]"), want) {
			t.Errorf("%s shows %+v and the row %q, want %q", name, c, p.text("#rows tr[aria-current]"), want)
		}
		if on := ask[string](p, `document.activeElement.id`); on != "chart" {
			t.Errorf("%s: the focus is on %q", name, on)
		}
	}
}

func TestFilter(t *testing.T) {
	p := open(t, look{page: "oom"})
	rows := func() []string {
		return ask[[]string](p, `[...document.querySelectorAll('#rows tr')].map((r) => r.textContent)`)
	}
	all := len(rows())
	p.do(chromedp.SendKeys(chromedp.CSS(`#filter`), "proxy"))
	p.frames(2)
	for _, r := range rows() {
		if !strings.Contains(r, "proxy") {
			t.Errorf("the filter left %q", r)
		}
	}
	if n := len(rows()); n == 0 || n >= all || !strings.Contains(p.text("#count"), fmt.Sprintf("%d of %d events", n, all)) {
		t.Errorf("%d of %d rows are left, and the page says %q", n, all, p.text("#count"))
	}
	ask[bool](p, `(() => { const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input')); return true; })()`)
	p.do(chromedp.Click(chromedp.CSS(`#problems`)))
	p.frames(2)
	for _, r := range rows() {
		if !strings.Contains(r, "✖") {
			t.Errorf("no problem: %q", r)
		}
	}
	if n := len(rows()); n != 6 {
		t.Errorf("%d problems, want five kills and the daemon's", n)
	}
	ask[bool](p, `(() => { const f = document.getElementById('filter'); f.value = 'no such thing'; f.dispatchEvent(new Event('input')); return true; })()`)
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	p.key(kb.ArrowRight, kb.ArrowLeft, kb.ArrowUp, kb.ArrowDown, kb.Home, kb.End, "n", "+", "0")
	if got := p.text("#page"); got != "No event has that." {
		t.Errorf("without an event the table says %q", got)
	}
}

// TestTable: pages lead through all events in their order, and a row's button shows its event
// and keeps the focus.
func TestTable(t *testing.T) {
	p := open(t, look{page: "node"})
	all := ask[int](p, `JSON.parse(document.getElementById('data').textContent).marks.length`)
	seen := 0
	for page := 1; ; page++ {
		seen += ask[int](p, `document.querySelectorAll('#rows tr').length`)
		if want := fmt.Sprintf("Page %d of %d, %d events", page, (all+99)/100, all); p.text("#page") != want {
			t.Fatalf("the table says %q, want %q", p.text("#page"), want)
		}
		if ask[bool](p, `document.getElementById('later').disabled`) {
			break
		}
		p.do(chromedp.Click(chromedp.CSS(`#later`)))
	}
	if seen != all {
		t.Errorf("the pages have %d events, want %d", seen, all)
	}
	ask[bool](p, `document.querySelectorAll('#rows .at')[2].focus() ?? true`)
	p.key(kb.Enter)
	row := ask[string](p, `document.activeElement.closest('tr[aria-current]')?.children[2].lastChild.textContent ?? ''`)
	if c := p.current(); row == "" || !strings.Contains(row, c.Detail) || c.Detail == "" {
		t.Errorf("the focus is on the row %q, and the event is %+v", row, c)
	}
}

func TestTheme(t *testing.T) {
	p := open(t, look{page: "oom", before: readable})
	surface := func() string {
		p.frames(2)
		return ask[string](p, `getComputedStyle(document.documentElement).backgroundColor + [...document.getElementById('canvas').getContext('2d').getImageData(500, 200, 1, 1).data].join()`)
	}
	light := surface()
	p.do(chromedp.Click(chromedp.CSS(`#theme`)), chromedp.Click(chromedp.CSS(`#theme`)))
	dark := surface()
	p.do(chromedp.Click(chromedp.CSS(`#theme`)))
	if dark == light || surface() != light {
		t.Errorf("light is %s, dark %s, and the system's %s", light, dark, surface())
	}
	other := open(t, look{page: "oom", dark: true})
	other.frames(2)
	if got := ask[string](other, `getComputedStyle(document.documentElement).backgroundColor`); !strings.HasPrefix(dark, got) {
		t.Errorf("a dark system gives %s, want %s", got, dark)
	}
}

// TestNothingHostileRuns: markup in names and messages is text, whatever is done with it.
func TestNothingHostileRuns(t *testing.T) {
	p := open(t, look{page: "hostile"})
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	p.key(kb.Home)
	for range 25 {
		p.do(chromedp.KeyEvent(kb.ArrowRight))
	}
	ask[bool](p, `document.querySelectorAll('details').forEach((d) => { d.open = true; }) ?? true`)
	for x := 300.0; x < 1200; x += 40 {
		for y := 40.0; y < 200; y += 40 {
			p.mouse(input.DispatchMouseEventTypeMouseMoved, x, y)
		}
	}
	if ask[bool](p, `'hit' in document.documentElement.dataset`) {
		t.Error("a name ran as a script")
	}
	if n := ask[int](p, `document.querySelectorAll('img, iframe, object, embed, link, base, form, [onerror], [onclick], [style*=url]').length`); n != 0 {
		t.Errorf("names became %d elements", n)
	}
	if n := ask[int](p, `document.querySelectorAll('script').length`); n != 2 {
		t.Errorf("there are %d scripts", n)
	}
	if !strings.Contains(p.text("#rows"), `</script><script>document`) {
		t.Error("the name is not shown as it is")
	}
}

// TestPolicy: even if a name became markup, its script would not run, nor reach anything.
func TestPolicy(t *testing.T) {
	p := open(t, look{page: "oom"})
	p.forgives = true
	got := ask[[]string](p, `(async () => {
		const log = [];
		const seen = new Set();
		document.addEventListener('securitypolicyviolation', (e) => seen.add(e.effectiveDirective));
		const b = document.createElement('button');
		try { b.setAttribute('onclick', 'document.documentElement.dataset.hit = 1'); log.push('handler was set'); } catch { }
		document.body.append(b);
		b.click();
		try { document.body.innerHTML = '<b>x</b>'; log.push('markup was parsed'); } catch { }
		try { await fetch('https://stele.invalid/'); log.push('fetch'); } catch { }
		const i = new Image();
		await new Promise((done) => { i.onload = () => { log.push('image'); done(); }; i.onerror = done; i.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=='; });
		if ('hit' in document.documentElement.dataset) log.push('handler');
		await new Promise((done) => setTimeout(done));
		for (const want of ['require-trusted-types-for', 'connect-src', 'img-src']) if (!seen.has(want)) log.push('no violation of ' + want);
		return log;
	})()`)
	if len(got) > 0 {
		t.Errorf("the policy let through: %q", got)
	}
}

// TestWithoutScript: a viewer of mails that runs none shows what died and why.
func TestWithoutScript(t *testing.T) {
	p := open(t, look{page: "quiet"})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.do(chromedp.Navigate("file://" + filepath.Join(pages, "oom.html")))
	shown, err := chromedp.Run(p, chromedp.Text(chromedp.CSS(`body`)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"killed by the kernel because it was out of memory", "need JavaScript", "runtime create"} {
		if !strings.Contains(shown, want) {
			t.Errorf("without scripts %q is not shown:\n%s", want, shown)
		}
	}
	for _, never := range []string{"Problems only", "Show all"} {
		if strings.Contains(shown, never) {
			t.Errorf("without scripts there is a control: %q", never)
		}
	}
}

// TestManyEvents: with 50,000 events the page opens, and its keys, table and filter work.
func TestManyEvents(t *testing.T) {
	p := open(t, look{page: "node-50000"})
	info, err := os.Stat(filepath.Join(pages, "node-50000.html"))
	if err != nil || info.Size() > 8<<20 {
		t.Errorf("the page has %d bytes (%v)", info.Size(), err)
	}
	p.do(chromedp.Focus(chromedp.CSS(`#chart`)))
	p.key(kb.End, "n", "p", kb.ArrowUp, "+", "+", "0")
	if c := p.current(); c.Of < 50_000 || c.Words == "" {
		t.Errorf("the current event is %+v", c)
	}
	p.do(chromedp.SendKeys(chromedp.CSS(`#filter`), "out of memory"))
	p.frames(2)
	if n := ask[int](p, `document.querySelectorAll('#rows tr').length`); n != 100 || !strings.Contains(p.text("#rows tr"), "out of memory") {
		t.Errorf("the filter shows %d rows, the first %q", n, p.text("#rows tr"))
	}
	if n := ask[int](p, `document.querySelectorAll('*').length`); n > 3000 {
		t.Errorf("the document has %d elements", n)
	}
}
