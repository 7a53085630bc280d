package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

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
