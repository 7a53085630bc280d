package client

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/cmd/stele/internal/record"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
	"github.com/stele-runtime/stele/timeline"
)

// Verdict is a comparison of a daemon's memory, or of the snapshot in its log, with its events.
type Verdict struct {
	// Sequence is the record as of which both are compared.
	Sequence uint64
	// Of is what was compared with the events.
	Of string
	// Difference is the first one, empty if they are equal.
	Difference string
	// What was compared, and from how many records.
	Pods, Containers, Records int
	// Dropped are streams that cannot be compared: what they were is not in the log any more.
	Dropped int
}

// Verify compares what a running daemon has in memory, which began with a snapshot at its start,
// with a fold of all its events from nothing; for a stopped daemon, the snapshot in its log.
func (s *Source) Verify(ctx context.Context) (Verdict, error) {
	if s.Root != "" {
		return verifyRoot(ctx, filepath.Join(s.Root, places.EventsFile))
	}
	v := Verdict{Of: "the daemon"}
	var memory *adminv1.InspectResponse
	err := s.WithAdmin(func(c adminv1.AdminServiceClient) (err error) {
		memory, err = c.Inspect(ctx, &adminv1.InspectRequest{All: true})
		return err
	})
	if err != nil {
		return v, fmt.Errorf("ask for what has not ended: %w", err)
	}
	v.Sequence = memory.GetSequence()
	t := timeline.New()
	if v.Sequence > 0 {
		if _, err := s.Until(ctx, timeline.Point{Sequence: v.Sequence}, func(r *adminv1.Record) error {
			v.Records++
			t.Add(record.Model(r))
			return nil
		}); err != nil {
			return v, err
		}
	}
	if t.Skipped > 0 {
		return v, fmt.Errorf("%d records are of another version than this program: compare with the daemon's own", t.Skipped)
	}
	told := map[string]string{}
	for _, e := range memory.GetEntities() {
		told[e.GetStream()] = e.GetStateJson()
	}
	v.Difference, err = v.compare(t, told)
	return v, err
}

// compare returns the first difference, in the order of the events. What it has seen it
// removes from what the daemon told.
func (v *Verdict) compare(t *timeline.Timeline, told map[string]string) (string, error) {
	for _, p := range t.Pods() {
		if p.Gone() {
			continue
		}
		v.Pods++
		if d, err := differs(told, "sandbox/"+string(p.State.ID), "pod "+p.Title(), p.State); d != "" || err != nil {
			return d, err
		}
	}
	for _, c := range t.AllContainers() {
		if c.Gone() {
			continue
		}
		v.Containers++
		if d, err := differs(told, "container/"+string(c.State.ID), "container "+t.Title(c), c.State); d != "" || err != nil {
			return d, err
		}
	}
	for stream := range told {
		return fmt.Sprintf("the daemon has %s, and by its events it is gone or never was", stream), nil
	}
	return "", nil
}

func differs(told map[string]string, stream, title string, state any) (string, error) {
	folded, err := redact.State(state)
	if err != nil {
		return "", fmt.Errorf("show %s: %w", stream, err)
	}
	memory, has := told[stream]
	delete(told, stream)
	switch {
	case !has:
		return fmt.Sprintf("%s (%s) is left by its events, and the daemon has none", title, stream), nil
	case memory == string(folded):
		return "", nil
	}
	at := 0
	for at < min(len(memory), len(folded)) && memory[at] == folded[at] {
		at++
	}
	near := func(s string) string { return s[max(0, min(at-40, len(s))):min(len(s), at+60)] }
	return fmt.Sprintf("%s (%s): the daemon has …%s…, its events give …%s…", title, stream, near(memory), near(string(folded))), nil
}
