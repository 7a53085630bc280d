package page

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "write pictures of all pages into this folder, for people to look at")

var picture = flag.String("picture", "", "write the README's picture to this file")

// TestPicture: the README's picture fits a README, and the dead container and its cause are
// in it.
func TestPicture(t *testing.T) {
	p := open(t, look{page: "oom", width: 1280, height: 560})
	taken, err := chromedp.Run(p, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if len(taken) > 200_000 {
		t.Errorf("the picture has %d bytes", len(taken))
	}
	if below := ask[float64](p, `document.getElementById('chart').getBoundingClientRect().bottom`); below > 560 {
		t.Errorf("the timeline ends at %g pixels, below the picture", below)
	}
	if *picture != "" {
		if err := os.WriteFile(*picture, taken, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestShots takes a picture of each page in both themes and two widths. No part of a page may
// be wider than the window.
func TestShots(t *testing.T) {
	for _, name := range everywhere {
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 390} {
				title := fmt.Sprintf("%s-%d-%s", name, width, map[bool]string{false: "light", true: "dark"}[dark])
				t.Run(title, func(t *testing.T) {
					p := open(t, look{page: name, dark: dark, width: width, height: 900})
					if wide := ask[int64](p, `document.documentElement.scrollWidth`); wide > width {
						t.Errorf("the page is %d pixels wide in a window of %d", wide, width)
					}
					shoot(t, p, title)
					if ask[bool](p, `document.querySelector('.go') !== null`) {
						p.do(chromedp.Click(chromedp.CSS(`.go`)))
						p.frames(2)
						shoot(t, p, title+"-shown")
					}
				})
			}
		}
	}
}

func shoot(t *testing.T, p *tab, title string) {
	t.Helper()
	taken, err := chromedp.Run(p, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if len(taken) < 5000 {
		t.Errorf("the picture has %d bytes: is it empty?", len(taken))
	}
	if *shots != "" {
		if err := os.WriteFile(filepath.Join(*shots, title+".png"), taken, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
