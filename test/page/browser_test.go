package page

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pages is the folder in which the incidents lie as pages.
var pages string

// browser is the context of the one Chromium of all tests; nil if there is none.
var browser context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	program, found := chromium()
	if !found {
		fmt.Fprintln(os.Stderr, "There is no Chromium, so that no page is looked at in a browser: "+advice)
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "stele-page-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	pages = dir
	// The product's module writes the pages, so that this one needs nothing of it.
	write := exec.Command("go", "run", "./test/incidents/pages", dir, "5000", "50000")
	write.Dir = filepath.Join("..", "..")
	if out, err := write.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "write the pages: %v\n%s", err, out)
		return 1
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.DisableGPU, chromedp.Flag("force-device-scale-factor", "1"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	ctx, end := chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "start Chromium:", err)
		return 1
	}
	browser = ctx
	return m.Run()
}

// chromium finds the browser as Debian, others and developers have it.
func chromium() (string, bool) {
	for _, name := range []string{os.Getenv("STELE_CHROMIUM"), "chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}

const advice = "apt-get install chromium, or name one in STELE_CHROMIUM"

// look is how a page is looked at.
type look struct {
	page          string
	dark          bool
	width, height int64
	// before runs in the page before its own script.
	before string
}

// tab is a page that was opened, with what must not happen in it.
type tab struct {
	context.Context
	testing.TB
	mutex    sync.Mutex
	problems []string
	// forgives: the test itself does what a page must not do.
	forgives bool
}

// open opens a page. The test fails at its end if the page wrote to the console, threw, or
// asked for anything over a network.
func open(t testing.TB, l look) *tab {
	t.Helper()
	if browser == nil {
		t.Skip("there is no Chromium: " + advice)
	}
	ctx, end := chromedp.NewContext(browser)
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	p := &tab{Context: ctx, TB: t}
	t.Cleanup(func() {
		stop()
		end()
		p.mutex.Lock()
		defer p.mutex.Unlock()
		if p.forgives {
			return
		}
		for _, problem := range p.problems {
			t.Errorf("%s: %s", l.page, problem)
		}
	})
	p.do()
	if err := chromedp.Listen(ctx, p.watch); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	if l.width == 0 {
		l.width, l.height = 1280, 900
	}
	call(p, runtime.Enable, cdp.Empty{})
	call(p, log.Enable, cdp.Empty{})
	call(p, network.Enable, network.EnableParams{})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	if l.before != "" {
		call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: l.before})
	}
	p.do(chromedp.Navigate("file://" + filepath.Join(pages, l.page+".html")))
	p.frames(2)
	return p
}

func (p *tab) watch(event any) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		var said []string
		for _, arg := range e.Args {
			said = append(said, string(arg.Value))
		}
		p.problems = append(p.problems, "wrote to the console: "+strings.Join(said, " "))
	case *runtime.EventExceptionThrown:
		p.problems = append(p.problems, "threw "+e.ExceptionDetails.Text)
	case *log.EventEntryAdded:
		p.problems = append(p.problems, "the browser complained: "+e.Entry.Text)
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, "file://"+pages) {
			p.problems = append(p.problems, "asked for "+e.Request.URL)
		}
	}
}

// call sends the browser a command.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.Helper()
	if _, err := chromedp.Call(p, command, params); err != nil {
		p.Fatalf("%s: %v", command.Method, err)
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	if err := chromedp.Do(p, actions...); err != nil {
		p.Fatal(err)
	}
}

// ask returns the value of an expression, or what its promise gives.
func ask[T any](p *tab, expression string) T {
	p.Helper()
	answer, err := chromedp.Run(p, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return answer
}

// frames waits until so many frames were drawn.
func (p *tab) frames(n int) {
	p.Helper()
	ask[bool](p, fmt.Sprintf(`new Promise((done) => { let n = %d; const next = () => n-- > 0 ? requestAnimationFrame(next) : done(true); next(); })`, n))
}
