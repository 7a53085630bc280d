package show

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stele-runtime/stele/timeline"
)

// Replayed is a node as its log says that it was after a record.
type Replayed struct {
	Node
	// Sequence is the last record, 0 if there was none.
	Sequence uint64
}

// Text writes what there was for people: tables, and what was owed.
func (r Replayed) Text(to io.Writer) error {
	var b bytes.Buffer
	if r.Sequence == 0 {
		_, err := fmt.Fprintln(to, "The log has no records.")
		return err
	}
	fmt.Fprintf(&b, "After sequence %d, %s\n", r.Sequence, r.Now.UTC().Format("2 January 2006 15:04:05.000 UTC"))
	if n := r.Timeline.Skipped; n > 0 {
		fmt.Fprintf(&b, "%d records of another version were passed over.\n", n)
	}
	tables := []struct {
		count int
		none  string
		write func(io.Writer, bool) error
	}{
		{len(r.pods()), "There was no pod.", r.Pods},
		{len(r.containers()), "There was no container.", r.Containers},
	}
	for _, t := range tables {
		fmt.Fprintln(&b)
		if t.count == 0 {
			fmt.Fprintln(&b, t.none)
			continue
		}
		if err := t.write(&b, false); err != nil {
			return err
		}
	}
	if debts := r.Timeline.Debts(); len(debts) > 0 {
		fmt.Fprintln(&b, "\nStill owed")
		for _, d := range debts {
			wrapped(&b, "  ", "    ", d)
		}
	}
	_, err := to.Write(b.Bytes())
	return err
}

// Structured writes the same for scripts, with the machines' states.
func (r Replayed) Structured(to io.Writer, format Structured) error {
	answer := struct {
		Sequence   uint64       `json:"sequence"`
		Time       time.Time    `json:"time,omitzero"`
		Skipped    int          `json:"skippedRecords,omitempty"`
		Pods       []entityJSON `json:"pods"`
		Containers []entityJSON `json:"containers"`
	}{Sequence: r.Sequence, Time: r.Now.UTC(), Skipped: r.Timeline.Skipped, Pods: []entityJSON{}, Containers: []entityJSON{}}
	for _, p := range r.pods() {
		shown, err := podJSON(p)
		if err != nil {
			return err
		}
		shown.Moments, shown.Steps = nil, nil
		answer.Pods = append(answer.Pods, shown)
	}
	for _, c := range r.containers() {
		shown, err := containerJSON(c)
		if err != nil {
			return err
		}
		shown.Moments, shown.Steps = nil, nil
		answer.Containers = append(answer.Containers, shown)
	}
	return format.write(to, answer)
}

// Differences writes what changed between two moments, a block for each pod and container.
func Differences(to io.Writer, all []timeline.Difference) error {
	var b bytes.Buffer
	if len(all) == 0 {
		fmt.Fprintln(&b, "Nothing changed.")
	}
	for _, d := range all {
		change := d.Before + " → " + d.After
		switch {
		case d.Before == "":
			change = "new: " + d.After
		case d.Before == d.After:
			change = d.After
		}
		kind, _, _ := strings.Cut(d.Stream, "/")
		if kind == "sandbox" {
			kind = "pod"
		}
		wrapped(&b, "", "  ", fmt.Sprintf("%s %s: %s", kind, line(d.Title), change))
		for _, owed := range d.Owes {
			wrapped(&b, "  + owed: ", "    ", owed)
		}
		for _, owed := range d.Settled {
			wrapped(&b, "  - owed: ", "    ", owed)
		}
	}
	_, err := to.Write(b.Bytes())
	return err
}

// DifferencesJSON writes the same for scripts.
func DifferencesJSON(to io.Writer, all []timeline.Difference, format Structured) error {
	if all == nil {
		all = []timeline.Difference{}
	}
	return format.write(to, all)
}
