package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// Entity writes the state of a sandbox or container and what it still owes.
func Entity(to io.Writer, e *adminv1.Entity, zone *time.Location) error {
	if _, err := fmt.Fprintln(to, e.GetStream()); err != nil {
		return err
	}
	if err := JSON(to, e.GetStateJson()); err != nil {
		return fmt.Errorf("show %s: %w", e.GetStream(), err)
	}
	for _, o := range e.GetOwed() {
		when := "now"
		if o.GetNotBefore() != nil {
			when = "not before " + o.GetNotBefore().AsTime().In(zone).Format(time.RFC3339)
		}
		if _, err := fmt.Fprintf(to, "owes: %s, %s\n", o.GetEffect(), when); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(to)
	return err
}

// JSON writes a JSON document with indentation.
func JSON(to io.Writer, document string) error {
	var shown bytes.Buffer
	if err := json.Indent(&shown, []byte(document), "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(to, shown.String())
	return err
}

// LogStats writes figures of the event log as one line of JSON.
func LogStats(to io.Writer, stats *adminv1.LogStatsResponse) error {
	spaced, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(stats)
	if err != nil {
		return err
	}
	// protojson inserts spaces at random, so that nobody relies on them.
	var shown bytes.Buffer
	if err := json.Compact(&shown, spaced); err != nil {
		return err
	}
	_, err = fmt.Fprintln(to, shown.String())
	return err
}
