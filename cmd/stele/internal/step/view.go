package step

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/timeline"
)

const keys = "←/→ step  PgUp/PgDn  Home/End  n/N failure  g jump  / filter  q quit"

// View is part of tea.Model: a heading, events around the place, what the event changed, and
// the keys.
func (m Model) View() string {
	if len(m.shown) == 0 {
		return "The log has no records. q quits.\n"
	}
	n := m.shown[m.at]
	r := m.records[n]
	heading := fmt.Sprintf("Sequence %d, event %d of %d, %s", r.Sequence, m.at+1, len(m.shown), r.Time.UTC().Format("2 January 2006 15:04:05.000 UTC"))
	if m.filter != "" {
		heading += fmt.Sprintf(", only %s", m.filter)
	}
	changes := m.changes(n)
	body := max(4, m.height-4) // without heading, blank line and keys
	listed := max(3, body-len(changes))
	if listed > len(m.shown) {
		listed = len(m.shown)
	}
	lines := append([]string{heading, ""}, m.list(listed)...)
	lines = append(append(lines, ""), changes[:min(len(changes), max(1, body-listed))]...)
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	foot := keys
	switch {
	case m.asks != "":
		foot = string(m.asks) + m.typed + "▏"
	case m.problem != "":
		foot = m.problem
	}
	lines = append(lines[:min(len(lines), max(1, m.height-1))], foot)
	for i, line := range lines {
		lines[i] = cut(line, m.width)
	}
	return strings.Join(lines, "\n")
}

// list is as many events as there is room for, with the place in the middle.
func (m Model) list(room int) []string {
	from := max(0, min(m.at-room/2, len(m.shown)-room))
	var lines []string
	for i := from; i < min(len(m.shown), from+room); i++ {
		r, told := m.records[m.shown[i]], m.told[m.shown[i]]
		cursor, mark := ' ', ' '
		if i == m.at {
			cursor = '▶'
		}
		if told.Bad {
			mark = '!'
		}
		words := told.Words
		if told.Call != "" {
			words += " (" + told.Call + ")"
		}
		lines = append(lines, fmt.Sprintf("%c %6d %s %c %s: %s", cursor, r.Sequence, r.Time.UTC().Format("15:04:05.000"), mark, told.About, words))
	}
	return lines
}

// changes is what an event changed: the fields of the state, and what became or is no longer
// owed.
func (m Model) changes(n int) []string {
	before, owedBefore := m.state(n, false)
	after, owedAfter := m.state(n, true)
	lines := []string{m.told[n].About + ", " + m.told[n].Event}
	if after == nil {
		return append(lines, "    its state is not shown")
	}
	for _, field := range slices.Sorted(maps.Keys(union(before, after))) {
		was, had := before[field]
		is, has := after[field]
		switch {
		case was == is:
		case !had:
			lines = append(lines, fmt.Sprintf("  + %s: %s", field, is))
		case !has:
			lines = append(lines, fmt.Sprintf("  - %s: %s", field, was))
		default:
			lines = append(lines, fmt.Sprintf("    %s: %s → %s", field, was, is))
		}
	}
	if len(lines) == 1 {
		lines = append(lines, "    nothing of its state changes")
	}
	for _, key := range owedAfter {
		mark := "still owed"
		if !slices.Contains(owedBefore, key) {
			mark = "now owed"
		}
		lines = append(lines, fmt.Sprintf("  %s: %s", mark, key))
	}
	for _, key := range owedBefore {
		if !slices.Contains(owedAfter, key) {
			lines = append(lines, "  no longer owed: "+key)
		}
	}
	return lines
}

// state is the state of what a record is about, before or after it, by field, and what it
// owes. Of images and the node none is shown.
func (m Model) state(n int, after bool) (fields map[string]string, owed []string) {
	stream := m.records[n].Stream
	t := timeline.New()
	for _, i := range m.streams[stream] {
		if i > n || i == n && !after {
			break
		}
		t.Add(m.records[i])
	}
	kind, name, _ := strings.Cut(stream, "/")
	var state any
	switch kind {
	case "sandbox":
		p := t.Pod(id.Sandbox(name))
		if p == nil {
			return map[string]string{}, nil
		}
		state, owed = p.State, p.Owed()
	case "container":
		c := t.Container(id.Container(name))
		if c == nil {
			return map[string]string{}, nil
		}
		state, owed = c.State, c.Owed()
	default:
		return nil, nil
	}
	shown, err := redact.State(state)
	if err != nil {
		return map[string]string{"": err.Error()}, owed
	}
	decoder := json.NewDecoder(bytes.NewReader(shown))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return map[string]string{"": err.Error()}, owed
	}
	fields = map[string]string{}
	flatten(fields, "", value)
	return fields, owed
}

// flatten adds a value's leaves by their path.
func flatten(to map[string]string, path string, value any) {
	object, is := value.(map[string]any)
	if !is {
		text, err := json.Marshal(value) // escapes what a terminal would act on
		if err != nil {
			text = []byte(err.Error())
		}
		if !slices.Contains(nothing, string(text)) {
			to[path] = string(text)
		}
		return
	}
	for name, inner := range object {
		if path != "" {
			name = path + "." + name
		}
		flatten(to, name, inner)
	}
}

// nothing are the values of fields that say nothing.
var nothing = []string{`""`, "0", "false", "null", `"0001-01-01T00:00:00Z"`}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return all
}

// cut shortens a line to the width, and makes it safe for a terminal.
func cut(line string, width int) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, line)
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	runes := []rune(line)
	return string(runes[:max(0, width-1)]) + "…"
}
