package step

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/timeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

var start = time.Date(2026, 5, 4, 3, 0, 0, 0, time.UTC)

// history is a pod whose container cannot be started, and another pod.
func history(t *testing.T) []timeline.Record {
	t.Helper()
	var all []timeline.Record
	versions := map[string]uint64{}
	add := func(stream string, e codec.Encoded, err error) {
		if err != nil {
			t.Fatal(err)
		}
		versions[stream]++
		all = append(all, timeline.Record{
			Sequence: uint64(len(all) + 1), Version: versions[stream], Stream: stream, Time: start.Add(time.Duration(len(all)) * time.Second),
			Type: e.Type, Schema: e.Schema, Payload: e.Payload,
		})
	}
	e, err := codec.EncodeHost(host.DaemonStarted{Version: "1", PID: 1})
	add("node", e, err)
	for _, pod := range []string{"web", "db"} {
		for _, event := range []sandbox.Event{
			sandbox.SandboxRequested{ID: "aaaa", Name: sandbox.Name{Namespace: "shop", Name: pod}, Handler: "runc", At: start}, sandbox.SandboxPrepared{},
			sandbox.NetworkAttached{IPs: []string{"10.86.0.2"}}, sandbox.SandboxReady{},
		} {
			e, err := codec.EncodeSandbox(event)
			add("sandbox/"+pod, e, err)
		}
	}
	for _, event := range []container.Event{
		container.ContainerRequested{ID: "c", Sandbox: "web", Name: container.Name{Name: "app"}, Config: []byte("hunter2"), At: start},
		container.RootfsPrepared{}, container.ContainerCreated{Process: container.Process{PID: 4711}}, container.StartRequested{At: start},
		container.ContainerStartFailed{Fault: fault.Fault{Op: "start", Reason: "exec:\n\x1b[31mno such file"}, At: start},
	} {
		e, err := codec.EncodeContainer(event)
		add("container/c", e, err)
	}
	return all
}

func parse(text string) (timeline.Point, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return timeline.Point{}, errors.New("no number")
	}
	return timeline.Point{Sequence: n}, nil
}

// press sends keys; a word of several letters that names no key is typed.
func press(t *testing.T, m Model, keys ...string) Model {
	t.Helper()
	named := map[string]tea.KeyType{
		"left": tea.KeyLeft, "right": tea.KeyRight, "home": tea.KeyHome, "end": tea.KeyEnd, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown,
		"enter": tea.KeyEnter, "esc": tea.KeyEsc, "backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC,
	}
	for _, key := range keys {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(key)}
		if kind, is := named[key]; is {
			msg = tea.KeyMsg{Type: kind}
		}
		next, _ := m.Update(msg)
		m = next.(Model)
	}
	return m
}

func (m Model) sequence() uint64 { return m.records[m.shown[m.at]].Sequence }

func TestKeys(t *testing.T) {
	all := history(t)
	for _, c := range []struct {
		keys    string
		at      uint64
		problem string
	}{
		{"", 14, ""}, {"right", 14, ""}, {"left", 13, ""}, {"home", 1, ""}, {"home left", 1, ""}, {"home right j l", 4, ""}, {"home pgdown", 14, ""}, {"pgup", 1, ""},
		{"home n", 14, ""}, {"n", 14, "there is no further failure"}, {"N", 14, "there is no further failure"},
		{"g 5 enter", 5, ""}, {"g 99 enter", 14, ""}, {"g x enter", 14, "no number"}, {"g 5 esc", 14, ""}, {"g 7 backspace 3 enter", 3, ""},
		{"/ shop/db enter", 9, ""}, {"/ shop/db enter home", 6, ""}, {"/ shop/db enter g 2 enter", 9, "sequence 2 is before the first event"},
		{"/shop/db enter home", 6, ""}, {"/ nobody enter", 14, `no event is about "nobody"`}, {"/ shop/db enter / backspace backspace backspace backspace backspace backspace backspace enter end", 14, ""},
	} {
		m := press(t, New(all, parse), strings.Fields(c.keys)...)
		if m.sequence() != c.at || m.problem != c.problem {
			t.Errorf("%q leads to %d, %q; want %d, %q", c.keys, m.sequence(), m.problem, c.at, c.problem)
		}
	}
	for _, key := range []tea.KeyMsg{{Type: tea.KeyRunes, Runes: []rune("q")}, {Type: tea.KeyCtrlC}, {Type: tea.KeyEsc}} {
		if _, cmd := New(all, parse).Update(key); cmd == nil {
			t.Errorf("%v does not quit", key)
		}
	}
	long := press(t, New(all, parse), "g", strings.Repeat("x", typedMost), "more")
	if len(long.typed) > typedMost+4 {
		t.Errorf("%d bytes were typed", len(long.typed))
	}
	press(t, New(nil, parse), "right", "home", "end", "n", "g", "1", "enter", "/", "x", "enter").View()
}

func TestView(t *testing.T) {
	all := history(t)
	for name, keys := range map[string]string{
		"last": "", "first": "home", "ready": "g 5 enter", "started": "g 13 enter", "filtered": "/ shop/db enter home", "typing": "g 03:02", "problem": "g x enter",
	} {
		m, _ := press(t, New(all, parse), strings.Fields(keys)...).Update(tea.WindowSizeMsg{Width: 90, Height: 24})
		got := m.View()
		if lines := strings.Split(got, "\n"); len(lines) != 24 {
			t.Errorf("%s has %d lines", name, len(lines))
		}
		for _, wrong := range []string{"hunter2", "\x1b"} {
			if strings.Contains(got, wrong) {
				t.Errorf("%s shows %q", name, wrong)
			}
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != got+"\n" {
			t.Errorf("%s (%v) is\n%s", name, err, got)
		}
	}
	// Any size has a view that fits.
	for width := range 30 {
		for height := 1; height < 30; height++ {
			m, _ := New(all, parse).Update(tea.WindowSizeMsg{Width: width, Height: height})
			lines := strings.Split(m.View(), "\n")
			if len(lines) > max(height, 2) {
				t.Errorf("%d×%d has %d lines", width, height, len(lines))
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); n > max(width, 1) {
					t.Fatalf("%d×%d has a line of %d", width, height, n)
				}
			}
		}
	}
}
