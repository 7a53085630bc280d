package page

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/test/incidents"
	"github.com/stele-runtime/stele/timeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

func about(t testing.TB, records []timeline.Record, pod string) Subject {
	t.Helper()
	line := timeline.New()
	for _, r := range records {
		line.Add(r)
	}
	s := Subject{Timeline: line, Now: line.Last.Add(5 * time.Second)}
	if pod == "" {
		return s
	}
	name, err := timeline.ParseName(pod)
	if err != nil {
		t.Fatal(err)
	}
	if s.Found, err = line.Find(name); err != nil {
		t.Fatal(err)
	}
	return s
}

func written(t testing.TB, s Subject) string {
	t.Helper()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestIncidents compares what each page says first, its lanes, bars and marks with a golden
// file.
func TestIncidents(t *testing.T) {
	for _, i := range incidents.All() {
		if i.Name == "node" {
			continue // long, and says nothing new
		}
		got := outline(about(t, i.Records, i.Pod))
		path := filepath.Join("testdata", i.Name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", i.Name, got, want)
		}
	}
}

// outline is what a page is made of.
func outline(s Subject) string {
	var b strings.Builder
	d := s.document()
	v := s.verdict(d)
	fmt.Fprintln(&b, s.title())
	for _, f := range append(v.Findings, v.Folded...) {
		fmt.Fprintf(&b, "%s, event %d: %s\n  %s\n  %s\n", f.Word(), f.Sequence, f.Of, f.Lead, f.Rest)
	}
	for i, l := range d.Lanes {
		fmt.Fprintf(&b, "lane %s %s, of %d, trouble %d, within %d: %s\n", l.Kind, l.Name, l.Parent, l.Trouble, l.Within, l.Says)
		for _, bar := range d.Bars {
			if d.Subjects[bar[0]].Lane == i {
				fmt.Fprintf(&b, "  %s from %d to %d ms, attempt %d\n", d.Strings[bar[3]], bar[1]/1000, bar[2]/1000, d.Subjects[bar[0]].Attempt)
			}
		}
		for _, step := range d.Steps {
			if d.Subjects[step[0]].Lane == i {
				fmt.Fprintf(&b, "  step %s from %d ms for %d ms, state %d\n", d.Strings[step[3]], step[1]/1000, step[2]/1000, step[4])
			}
		}
		for _, m := range d.Marks {
			if d.Subjects[m[0]].Lane == i && d.Strings[m[3]] != "event" {
				fmt.Fprintf(&b, "  %s at %d ms, event %d, wrong %d: %s\n", d.Strings[m[3]], m[1]/1000, m[2], m[10], d.Strings[m[4]])
			}
		}
	}
	for _, r := range s.steps() {
		fmt.Fprintf(&b, "%s: %s took %s, usually %s and %s of %d, slow %t, failed %t, most %t\n", r.Of, r.Name, r.Took, r.P50, r.P95, r.Count, r.Slow, r.Failed, r.Most)
	}
	return b.String()
}

// TestWhatDiedComesFirst: the first sentence of a page is the one that a reader came for.
func TestWhatDiedComesFirst(t *testing.T) {
	for name, want := range map[string]string{
		"oom":     "Container web (attempt 4) was killed by the kernel because it was out of memory",
		"network": "Pod shop/web could not be created: the step “network” failed",
		"reboot":  "Pod shop/web is stopped, because it was lost: the node was rebooted.",
		"pull":    "The start of container web waited 41.6 s for its image.",
		"node":    "was killed by the kernel because it was out of memory",
		"quiet":   "Nothing in these records failed, died or waits.",
	} {
		all := incidents.All()
		i := all[slices.IndexFunc(all, func(i incidents.Incident) bool { return i.Name == name })]
		s := about(t, i.Records, i.Pod)
		if got := s.verdict(s.document()).Findings[0].Lead; !strings.Contains(got, want) {
			t.Errorf("%s begins with %q, want %q", name, got, want)
		}
	}
}

var policy = regexp.MustCompile(`<meta http-equiv="Content-Security-Policy" content="([^"]*)">`)

// TestOneFile: a page has no address, no handler in its markup, and a policy that allows its
// own script and nothing else.
func TestOneFile(t *testing.T) {
	for _, i := range incidents.All() {
		page := written(t, about(t, i.Records, i.Pod))
		if again := written(t, about(t, i.Records, i.Pod)); again != page {
			t.Errorf("%s: the same records give another page", i.Name)
		}
		found := policy.FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("%s has no policy", i.Name)
		}
		said := strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(found[1])
		_, script, _ := strings.Cut(page, `<script type="module">`)
		script, _, _ = strings.Cut(script, "</script>")
		_, style, _ := strings.Cut(page, "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		want := fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'", hash(script), hash(style))
		if said != want {
			t.Errorf("%s: the policy is\n%s\nwant\n%s", i.Name, said, want)
		}
		if n := strings.Count(page, "<script"); n != 2 {
			t.Errorf("%s has %d scripts", i.Name, n)
		}
		for _, wrong := range []string{"<img", "<link", " style=", " src=", " href=", "url(", "@import", "fetch(", "innerHTML", "\u202e", "hunter2", "PASSWORD"} {
			text := page
			if i.Name == "hostile" && strings.HasPrefix(wrong, " ") {
				text = page[strings.Index(page, "<header>"):]
				text = strings.ReplaceAll(text, "src=x", "") // as text, in the hostile names
			}
			if strings.Contains(text, wrong) {
				t.Errorf("%s has %q", i.Name, wrong)
			}
		}
	}
}

// TestData: the script's data is JSON in which no text can end its element, and whose indices
// lead somewhere.
func TestData(t *testing.T) {
	shapes, err := web.ReadFile("web/shapes.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range incidents.All() {
		_, data, _ := strings.Cut(written(t, about(t, i.Records, i.Pod)), `<script type="application/json" id="data">`)
		data, _, _ = strings.Cut(data, "</script>")
		if strings.ContainsAny(data, "<>&\u2028\u2029") {
			t.Errorf("%s: the data has markup", i.Name)
		}
		var d document
		if err := json.Unmarshal([]byte(data), &d); err != nil {
			t.Fatalf("%s: %v", i.Name, err)
		}
		if len(d.Marks) == 0 || len(d.Lanes) == 0 {
			t.Fatalf("%s has %d marks in %d lanes", i.Name, len(d.Marks), len(d.Lanes))
		}
		last := int64(0)
		for _, m := range d.Marks {
			if d.Strings[m[4]] == "" || m[1] < last {
				t.Errorf("%s: mark %d has the words %q, and comes at %d after %d", i.Name, m[2], d.Strings[m[4]], m[1], last)
			}
			last = m[1]
			kind := d.Strings[m[3]]
			if !bytes.Contains(shapes, []byte("\n  "+kind+": {")) && !bytes.Contains(shapes, []byte("\n  '"+kind+"': {")) {
				t.Errorf("%s: the kind %q has no shape", i.Name, kind)
			}
		}
	}
}

// TestModules: all files of the script are in the document, each after those that it imports.
func TestModules(t *testing.T) {
	files, err := fs.Glob(web, "web/*.js")
	if err != nil || len(files) != len(modules) {
		t.Errorf("there are %d modules, and %d are used (%v)", len(files), len(modules), err)
	}
	for at, name := range modules {
		source, err := web.ReadFile("web/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range imports.FindAllSubmatch(source, -1) {
			if before := slices.Index(modules, string(i[1])); before < 0 || before >= at {
				t.Errorf("%s imports %s, which is not before it", name, i[1])
			}
		}
	}
	script, err := bundle()
	if err != nil {
		t.Fatal(err)
	}
	if left := regexp.MustCompile(`(?m)^(import|export)\b.*`).FindString(script); left != "" {
		t.Errorf("the bundle has the line %q", left)
	}
	if strings.Contains(script, "</script") {
		t.Error("the script ends its own element")
	}
}

// TestAnyPart: any records give a page.
func TestAnyPart(t *testing.T) {
	var all []timeline.Record
	for _, i := range incidents.All() {
		all = append(all, i.Records...)
	}
	rapid.Check(t, func(rt *rapid.T) {
		chosen := rapid.SliceOfN(rapid.SampledFrom(all), 0, 30).Draw(rt, "records")
		line := timeline.New()
		for i, r := range chosen {
			r.Sequence = uint64(i + 1)
			line.Add(r)
		}
		s := Subject{Timeline: line, Now: line.Last}
		for _, p := range append(line.Pods(), nil) {
			s.Found = timeline.Found{Pod: p}
			var out bytes.Buffer
			if err := s.Write(&out); err != nil {
				rt.Fatal(err)
			}
			if strings.Count(out.String(), "<script") != 2 {
				rt.Fatal("a text became markup")
			}
			for _, m := range s.document().Bars {
				if m[2] < m[1] {
					rt.Logf("a bar from %d to %d: the wall clock went back", m[1], m[2])
				}
			}
		}
	})
}

type noWriter struct{}

func (noWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("broken") }

func TestBrokenWriter(t *testing.T) {
	if err := about(t, incidents.Reboot(), "").Write(noWriter{}); err == nil {
		t.Error("a broken writer goes unnoticed")
	}
}

// TestGap: where events are not in the log any more, the lane has a mark, between those around
// them, that says so; and a lane that has all has none.
func TestGap(t *testing.T) {
	all := incidents.All()
	i := all[slices.IndexFunc(all, func(i incidents.Incident) bool { return i.Name == "node" })]
	line := about(t, i.Records, "").Timeline
	pod := line.Pods()[0]
	c := line.Containers(pod)[0]
	stream := "container/" + string(c.State.ID)
	// As if one between two of its events were gone.
	before, after := c.Moments[0], c.Moments[2]
	gone := timeline.Dropped{First: c.Moments[1].Sequence, Last: c.Moments[1].Sequence, Records: 3212, Rules: map[string]uint64{"settled": 3212}, Stream: stream}
	c.Moments = slices.Delete(slices.Clone(c.Moments), 1, 2)
	line.Missing.Add(gone)
	line.Missing.Add(timeline.Dropped{First: 1 << 40, Last: 1 << 40, Records: 1, Rules: map[string]uint64{"age": 1}, Stream: "node"})
	d := Subject{Timeline: line, Now: line.Last}.document()
	var found []string
	for _, m := range d.Marks {
		if d.Strings[m[3]] != gapKind {
			continue
		}
		of := d.Subjects[m[0]]
		found = append(found, of.Stream+": "+d.Strings[m[4]])
		if of.Stream == stream && (m[1] < d.time(before.At) || m[1] > d.time(after.At) || m[2] != int64(gone.First) || m[10] != 0) {
			t.Errorf("the gap is at %d, the events around it at %d and %d: %v", m[1], d.time(before.At), d.time(after.At), m)
		}
	}
	slices.Sort(found)
	want := []string{stream + ": 3,212 records were dropped: of what was over and leaves no trace", "node: 1 record was dropped: for their age"}
	if !slices.Equal(found, want) {
		t.Errorf("the gaps are %q, want %q", found, want)
	}
}
