package show

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/redact"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Events writes records of the event log.
type Events struct {
	To io.Writer
	// JSON writes an object per line, instead of a line for people.
	JSON bool
	// Details are shown in addition to an event's own fields.
	Details []codec.Detail
	// Zone is the time zone of lines for people; JSON has UTC.
	Zone *time.Location
}

// Record writes one record.
func (e *Events) Record(r *adminv1.Record) error {
	if e.JSON {
		return e.json(r)
	}
	return e.line(r)
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
		Fields    map[string]string `json:"fields,omitempty"`
		Problem   string            `json:"problem,omitempty"`
	}{
		Sequence: r.GetSequence(), Time: r.GetTime().AsTime(), SinceBoot: r.GetSinceBoot().AsDuration(), BootID: r.GetBootId(),
		Stream: redact.Text(r.GetStream()), Version: r.GetVersion(), Type: r.GetType(), Command: r.GetCommand(), Cause: r.GetCause(),
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
