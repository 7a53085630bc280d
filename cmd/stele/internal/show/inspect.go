package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/timeline"
)

// columns is the width that text for people keeps to.
const columns = 100

// Inspected is the answer about a pod or a container.
type Inspected struct {
	Timeline *timeline.Timeline
	Found    timeline.Found
	// Now is the moment that durations count to.
	Now time.Time
}

// explanation says why it died, why it is not ready, or what it waits for.
func (i Inspected) explanation() []string {
	if c := i.Found.Container; c != nil {
		return i.Timeline.ExplainContainer(c, i.Now)
	}
	return i.Timeline.ExplainPod(i.Found.Pod, i.Now)
}

// containers are those to show.
func (i Inspected) containers() []*timeline.Container {
	if c := i.Found.Container; c != nil {
		return []*timeline.Container{c}
	}
	return i.Timeline.Containers(i.Found.Pod)
}

// Text writes the answer for people: the explanation, the events, and where the time went.
// All times are UTC.
func (i Inspected) Text(to io.Writer) error {
	var b bytes.Buffer
	for _, sentence := range i.explanation() {
		wrapped(&b, "", "  ", sentence)
	}
	p := i.Found.Pod
	if i.Found.Container == nil {
		if n := len(i.Found.Older); n > 0 {
			wrapped(&b, "", "  ", fmt.Sprintf("There are %d earlier sandboxes of this pod, the last one with the id %.12s.", n, i.Found.Older[n-1].State.ID))
		}
		fmt.Fprintf(&b, "\nPod %s, attempt %d\n", line(p.State.Name.Namespace+"/"+p.State.Name.Name), p.State.Name.Attempt)
		fmt.Fprintf(&b, "  sandbox/%s\n", line(string(p.State.ID)))
		moments(&b, p.Moments)
	}
	for _, c := range i.containers() {
		fmt.Fprintf(&b, "\nContainer %s, attempt %d", line(c.State.Name.Name), c.State.Name.Attempt)
		if c.ImageRef != "" && !strings.HasPrefix(c.ImageRef, "sha256:") {
			fmt.Fprintf(&b, ", image %s", line(c.ImageRef))
		}
		fmt.Fprintf(&b, "\n  container/%s\n", line(string(c.State.ID)))
		moments(&b, c.Moments)
	}
	i.node(&b)
	i.steps(&b)
	_, err := to.Write(b.Bytes())
	return err
}

// node writes what went wrong on the node during the pod's life.
func (i Inspected) node(b *bytes.Buffer) {
	life := i.Found.Pod.Moments
	if i.Found.Container != nil {
		life = i.Found.Container.Moments
	}
	if len(life) == 0 {
		return
	}
	var during []timeline.Moment
	for _, m := range i.Timeline.Node.Moments {
		if m.Bad && m.Sequence > life[0].Sequence && m.Sequence < life[len(life)-1].Sequence {
			during = append(during, m)
		}
	}
	if len(during) > 0 {
		fmt.Fprintln(b, "\nMeanwhile on the node")
		moments(b, during)
	}
}

// moments writes events: those that went wrong are marked. Times are UTC, the days between.
func moments(b *bytes.Buffer, all []timeline.Moment) {
	day := ""
	for _, m := range all {
		if d := m.At.UTC().Format("2 January 2006, UTC"); d != day {
			day = d
			fmt.Fprintf(b, "  %s\n", day)
		}
		mark, since := ' ', ""
		if m.Bad {
			mark = '!'
		}
		if m.Since > 0 {
			since = "+" + timeline.Took(m.Since)
		}
		words := m.Words
		if m.Call != "" {
			words += " (" + m.Call
			if m.Trace != "" {
				words += ", trace " + line(m.Trace)
			}
			words += ")"
		}
		wrapped(b, fmt.Sprintf("  %c %s  %-13s ", mark, m.At.UTC().Format("15:04:05.000"), since), strings.Repeat(" ", 32), words)
	}
}

// steps writes where the time of a start went, beside the node's figures.
func (i Inspected) steps(b *bytes.Buffer) {
	rows := 0
	row := func(of string, name timeline.StepName, took string) {
		if rows++; rows == 1 {
			fmt.Fprintf(b, "\nWhere the time went; beside it, what half and 95 %% of the node's last starts took at most\n")
		}
		text := fmt.Sprintf("  %-32.32s %-22s %12s", of, name, took)
		if p, has := i.Timeline.Percentiles(name); has {
			text += fmt.Sprintf(" %10s %10s  (of %d)", timeline.Took(p.P50), timeline.Took(p.P95), p.Of)
		}
		fmt.Fprintln(b, text)
	}
	of := func(what string, steps []timeline.Step) {
		for _, s := range steps {
			switch {
			case s.Failed:
				row(what, s.Name, "failed after "+timeline.Took(s.Took))
			case s.Done:
				row(what, s.Name, timeline.Took(s.Took))
			default:
				row(what, s.Name, "not done")
			}
		}
	}
	if i.Found.Container == nil {
		of("pod", i.Found.Pod.Steps)
	}
	all := i.containers()
	// Of a crash loop the last attempt of each container says enough.
	last := map[string]int{}
	for n, c := range all {
		last[c.State.Name.Name] = n
	}
	for n, c := range all {
		if last[c.State.Name.Name] != n {
			continue
		}
		what := "container " + line(c.State.Name.Name)
		if pull, has := i.Timeline.Pull(c); has {
			row(what, timeline.StepPull, timeline.Took(pull.Took))
		}
		of(what, c.Steps)
	}
}

// line is a foreign text that is safe within a line.
func line(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, redact.Text(s))
}

// wrapped writes a text in lines of at most columns characters; a longer word has a line of
// its own. The first line begins with first, the others with rest.
func wrapped(b *bytes.Buffer, first, rest, text string) {
	prefix, length, begun := first, utf8.RuneCountInString(first), false
	b.WriteString(prefix)
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case begun && length+1+n > columns:
			b.WriteString("\n" + rest)
			length = utf8.RuneCountInString(rest)
		case begun:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length, begun = length+n, true
	}
	b.WriteByte('\n')
}

// entityJSON is a pod or a container for scripts.
type entityJSON struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Attempt   uint32 `json:"attempt"`
	// Status is the state in a word or two.
	Status string `json:"status"`
	// UID is the pod's; Pod, Image and MemoryLimit are the container's.
	UID         string `json:"uid,omitempty"`
	Pod         string `json:"pod,omitempty"`
	Image       string `json:"image,omitempty"`
	MemoryLimit int64  `json:"memoryLimitBytes,omitempty"`
	// MemoryPeak is the most that it ever used, known once it has ended.
	MemoryPeak uint64            `json:"memoryPeakBytes,omitempty"`
	State      json.RawMessage   `json:"state"`
	Owed       []string          `json:"owed,omitempty"`
	Steps      []timeline.Step   `json:"steps,omitempty"`
	Moments    []timeline.Moment `json:"moments,omitempty"`
}

// Structured writes the answer for scripts: the explanation, the pod (unless only a container
// was asked for) and its containers, each with state, what is owed, steps and moments. No
// configuration is in it.
func (i Inspected) Structured(to io.Writer, format Structured) error {
	var answer struct {
		Explanation []string     `json:"explanation"`
		Pod         *entityJSON  `json:"pod,omitempty"`
		Containers  []entityJSON `json:"containers"`
	}
	answer.Explanation = i.explanation()
	if i.Found.Container == nil {
		shown, err := podJSON(i.Found.Pod)
		if err != nil {
			return err
		}
		answer.Pod = &shown
	}
	for _, c := range i.containers() {
		shown, err := containerJSON(c)
		if err != nil {
			return err
		}
		answer.Containers = append(answer.Containers, shown)
	}
	return format.write(to, answer)
}

func podJSON(p *timeline.Pod) (entityJSON, error) {
	state, err := redact.State(p.State)
	if err != nil {
		return entityJSON{}, fmt.Errorf("show sandbox %s: %w", p.State.ID, err)
	}
	return entityJSON{
		ID: string(p.State.ID), Namespace: p.State.Name.Namespace, Name: p.State.Name.Name, Attempt: p.State.Name.Attempt, UID: p.State.Name.UID,
		Status: p.Status(), State: state, Owed: p.Owed(), Steps: p.Steps, Moments: p.Moments,
	}, nil
}

func containerJSON(c *timeline.Container) (entityJSON, error) {
	s := c.State
	state, err := redact.State(s)
	if err != nil {
		return entityJSON{}, fmt.Errorf("show container %s: %w", s.ID, err)
	}
	return entityJSON{
		ID: string(s.ID), Name: s.Name.Name, Attempt: s.Name.Attempt, Image: redact.Text(c.ImageRef), MemoryLimit: c.MemoryLimit, MemoryPeak: s.Run.Exit.MemoryPeak,
		Status: c.Status(), State: state, Owed: c.Owed(), Steps: c.Steps, Moments: c.Moments,
	}, nil
}
