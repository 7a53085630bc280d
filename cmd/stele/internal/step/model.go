package step

import (
	"fmt"
	"strings"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/stele-runtime/stele/timeline"
)

// Model is a place in a history.
type Model struct {
	records []timeline.Record
	told    []timeline.Told
	// streams maps a stream to its records, as indexes.
	streams map[string][]int
	// shown are the records that the filter leaves, as indexes; at is a place in it.
	shown []int
	at    int
	// parse reads the text of a jump.
	parse  func(string) (timeline.Point, error)
	filter string
	// asks is what is being typed: a jump or a filter; empty for none.
	asks  question
	typed string
	// problem is why the last key had no effect.
	problem       string
	width, height int
}

type question string

const (
	jump   question = "jump to (sequence or time): "
	filter question = "show only (a part of NAMESPACE/POD/CONTAINER): "
)

// typedMost bounds what can be typed, in bytes.
const typedMost = 200

// page is how many events the keys for pages pass over.
const page = 20

// New returns a model at the last of the records, which are in order.
func New(records []timeline.Record, parse func(string) (timeline.Point, error)) Model {
	m := Model{records: records, streams: map[string][]int{}, parse: parse, width: 100, height: 40}
	teller := timeline.NewTeller()
	for i, r := range records {
		m.told = append(m.told, teller.Tell(r))
		m.streams[r.Stream] = append(m.streams[r.Stream], i)
	}
	return m.filtered("")
}

// filtered shows only events about something whose name has the text. The place stays, or is
// the event before it.
func (m Model) filtered(text string) Model {
	was := -1
	if len(m.shown) > 0 {
		was = m.shown[m.at]
	}
	var shown []int
	at := 0
	for i := range m.records {
		if !strings.Contains(m.told[i].About, text) {
			continue
		}
		if i <= was || was < 0 {
			at = len(shown)
		}
		shown = append(shown, i)
	}
	if len(shown) == 0 && len(m.records) > 0 {
		m.problem = fmt.Sprintf("no event is about %q", text)
		return m
	}
	m.shown, m.at, m.filter = shown, at, text
	return m
}

// Init is part of tea.Model.
func (m Model) Init() tea.Cmd { return nil }

// Update is part of tea.Model.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyMsg:
		m.problem = ""
		switch {
		case msg.Type == tea.KeyRunes && len(msg.Runes) > 1 && m.asks == "":
			// Typed so fast that the terminal sent it at once.
			var next tea.Model = m
			for _, r := range msg.Runes {
				next, _ = next.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
			}
			return next, nil
		case m.asks != "":
			return m.takes(msg), nil
		}
		return m.key(msg.String())
	}
	return m, nil
}

func (m Model) key(key string) (tea.Model, tea.Cmd) {
	switch key {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "right", "down", "l", "j", " ", "enter":
		return m.to(m.at + 1), nil
	case "left", "up", "h", "k", "backspace":
		return m.to(m.at - 1), nil
	case "pgdown":
		return m.to(m.at + page), nil
	case "pgup":
		return m.to(m.at - page), nil
	case "home":
		return m.to(0), nil
	case "end":
		return m.to(len(m.shown) - 1), nil
	case "n":
		return m.nextBad(1), nil
	case "N":
		return m.nextBad(-1), nil
	case "g":
		m.asks = jump
	case "/":
		m.asks, m.typed = filter, m.filter
	}
	return m, nil
}

// takes adds a key to a text that is being typed.
func (m Model) takes(msg tea.KeyMsg) Model {
	switch msg.Type {
	case tea.KeyEsc, tea.KeyCtrlC:
		m.asks, m.typed = "", ""
	case tea.KeyBackspace:
		_, size := utf8.DecodeLastRuneInString(m.typed)
		m.typed = m.typed[:len(m.typed)-size]
	case tea.KeyEnter:
		asked, text := m.asks, strings.TrimSpace(m.typed)
		m.asks, m.typed = "", ""
		if asked == filter {
			return m.filtered(text)
		}
		return m.jump(text)
	case tea.KeyRunes, tea.KeySpace:
		if len(m.typed) < typedMost {
			m.typed += string(msg.Runes)
		}
	}
	return m
}

// jump goes to the last event until a point.
func (m Model) jump(text string) Model {
	point, err := m.parse(text)
	if err != nil {
		m.problem = err.Error()
		return m
	}
	found := -1
	for i, n := range m.shown {
		if !point.Has(m.records[n].Sequence, m.records[n].Time) {
			break
		}
		found = i
	}
	if found < 0 {
		m.problem = fmt.Sprintf("%s is before the first event", point)
		return m
	}
	return m.to(found)
}

// nextBad goes to the next event, or with -1 to the one before, that tells of a failure.
func (m Model) nextBad(direction int) Model {
	for i := m.at + direction; i >= 0 && i < len(m.shown); i += direction {
		if m.told[m.shown[i]].Bad {
			return m.to(i)
		}
	}
	m.problem = "there is no further failure"
	return m
}

func (m Model) to(at int) Model {
	m.at = max(0, min(at, len(m.shown)-1))
	return m
}
