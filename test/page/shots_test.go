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
					picture(t, p, title)
					if ask[bool](p, `document.querySelector('.go') !== null`) {
						p.do(chromedp.Click(chromedp.CSS(`.go`)))
						p.frames(2)
						picture(t, p, title+"-shown")
					}
				})
			}
		}
	}
}

func picture(t *testing.T, p *tab, title string) {
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
