package show

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// EventsFormat is how records are written.
type EventsFormat string

// Words, a line with all fields, or an object a line.
const (
	EventsText EventsFormat = "text"
	EventsWide EventsFormat = "wide"
	EventsJSON EventsFormat = "json"
)

// Events writes records of the event log.
type Events struct {
	To     io.Writer
	Format EventsFormat
	// Details are shown in addition to an event's own fields, but not in words.
	Details []codec.Detail
	// Zone is the time zone of lines for people; JSON has UTC.
	Zone *time.Location
	// First returns the first record of a stream, nil if it is not known. For words of
	// what began before the first record that is written.
	First func(stream string) *adminv1.Record

	teller *timeline.Teller
	day    string
}

// Record writes one record.
func (e *Events) Record(r *adminv1.Record) error {
	switch e.Format {
	case EventsJSON:
		return e.json(r)
	case EventsWide:
		return e.line(r)
	}
	return e.words(r)
}

// Learn takes the names from a record that is not written.
func (e *Events) Learn(r *adminv1.Record) { e.tell(r) }

func (e *Events) tell(r *adminv1.Record) timeline.Told {
	if e.teller == nil {
		e.teller = timeline.NewTeller()
	}
	if !e.teller.Knows(r.GetStream()) && r.GetVersion() > 1 {
		e.learn(r.GetStream())
	}
	return e.teller.Tell(record.Model(r))
}

// learn asks for the names of a stream that began earlier.
func (e *Events) learn(stream string) {
	if e.First == nil {
		return
	}
	first := e.First(stream)
	if first == nil {
		return
	}
	if of, has := timeline.Sandbox(record.Model(first)); has && !e.teller.Knows(of) {
		e.learn(of)
	}
	e.teller.Tell(record.Model(first))
}

// words writes what a record says: its place, time and subject, marked if something went wrong.
func (e *Events) words(r *adminv1.Record) error {
	told, at := e.tell(r), r.GetTime().AsTime().In(e.Zone)
	var b bytes.Buffer
	if day := at.Format("2 January 2006, MST"); day != e.day {
		e.day = day
		fmt.Fprintln(&b, day)
	}
	mark := ' '
	if told.Bad {
		mark = '!'
	}
	words := told.Words
	if told.Call != "" {
		words += " (" + told.Call + ")"
	}
	wrapped(&b, fmt.Sprintf("%7d %s %c ", r.GetSequence(), at.Format("15:04:05.000"), mark), strings.Repeat(" ", 23), line(told.About)+": "+words)
	_, err := e.To.Write(b.Bytes())
	return err
}

func (e *Events) line(r *adminv1.Record) error {
	what := r.GetType()
	var fields strings.Builder
	if d, err := codec.Describe(r.GetType(), r.GetSchema(), r.GetPayload(), e.Details...); err != nil {
		fmt.Fprintf(&fields, " (%v)", err)
	} else {
		what = d.Name
		for _, f := range d.Fields {
			fmt.Fprintf(&fields, " %s=%s", f.Name, f.Value)
		}
	}
	_, err := fmt.Fprintf(e.To, "%6d %s %-23s %-4d %-22s%s\n", r.GetSequence(), r.GetTime().AsTime().In(e.Zone).Format("15:04:05.000000"),
		shortStream(r.GetStream()), r.GetVersion(), what, fields.String())
	return err
}

func (e *Events) json(r *adminv1.Record) error {
	shown := struct {
		Sequence  uint64            `json:"sequence"`
		Time      time.Time         `json:"time"`
		SinceBoot time.Duration     `json:"sinceBootNanoseconds"`
		BootID    string            `json:"bootId"`
		Stream    string            `json:"stream"`
		Version   uint64            `json:"version"`
		Type      string            `json:"type"`
		Command   string            `json:"command,omitempty"`
		Cause     uint64            `json:"cause,omitempty"`
		Trace     string            `json:"trace,omitempty"`
		Fields    map[string]string `json:"fields,omitempty"`
		Problem   string            `json:"problem,omitempty"`
	}{
		Sequence: r.GetSequence(), Time: r.GetTime().AsTime(), SinceBoot: r.GetSinceBoot().AsDuration(), BootID: r.GetBootId(),
		Stream: redact.Text(r.GetStream()), Version: r.GetVersion(), Type: r.GetType(), Command: r.GetCommand(), Cause: r.GetCause(), Trace: r.GetTrace(),
	}
	d, err := codec.Describe(r.GetType(), r.GetSchema(), r.GetPayload(), e.Details...)
	if err != nil {
		shown.Problem = err.Error()
	}
	for _, f := range d.Fields {
		if shown.Fields == nil {
			shown.Fields = map[string]string{}
		}
		shown.Fields[f.Name] = f.Value
	}
	return json.NewEncoder(e.To).Encode(shown)
}

// shortStream is a stream's name with the first 12 characters of the id.
func shortStream(stream string) string {
	kind, name, has := strings.Cut(redact.Text(stream), "/")
	if !has {
		return stream
	}
	return fmt.Sprintf("%s/%.12s", kind, cmp.Or(name, "?"))
}
