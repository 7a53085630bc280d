package bundle

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

const (
	format = "stele bundle"
	// version changes when older programs cannot read the file.
	version = 1

	eventsName   = "events.pb"
	manifestName = "manifest.json"
)

// Manifest says what is in a bundle.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Made is when, and by which version of Stele.
	Made  time.Time `json:"made"`
	Stele string    `json:"stele"`
	// Selected is what was asked for, in words.
	Selected string `json:"selected"`
	// First and Last are the sequences of the first and the last record, 0 if there is none.
	First   uint64 `json:"firstSequence"`
	Last    uint64 `json:"lastSequence"`
	Records int    `json:"records"`
	// Dropped is what of it was not in the log any more, in words; empty if nothing is known to miss.
	Dropped string `json:"dropped,omitempty"`
	// Environment: the values of environment variables are in it.
	Environment bool `json:"environment"`
}

// Writer writes a bundle: first records, then files, then Close.
type Writer struct {
	zip    *zip.Writer
	events io.Writer
	// told is what the records say of themselves.
	told Manifest
}

// NewWriter begins a bundle.
func NewWriter(to io.Writer) (*Writer, error) {
	w := &Writer{zip: zip.NewWriter(to)}
	var err error
	if w.events, err = w.zip.Create(eventsName); err != nil {
		return nil, fmt.Errorf("begin the bundle: %w", err)
	}
	return w, nil
}

// Record adds a record. All come before the first file, in the order of their sequence.
func (w *Writer) Record(r *adminv1.Record) error {
	if _, err := protodelim.MarshalTo(w.events, r); err != nil {
		return fmt.Errorf("write record %d: %w", r.GetSequence(), err)
	}
	if w.told.Records++; w.told.Records == 1 {
		w.told.First = r.GetSequence()
	}
	w.told.Last = r.GetSequence()
	return nil
}

// File adds a file.
func (w *Writer) File(name string, content []byte) error {
	to, err := w.zip.Create(name)
	if err == nil {
		_, err = to.Write(content)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Close writes the manifest, whose counts it fills in and returns, and ends the bundle.
func (w *Writer) Close(m Manifest) (Manifest, error) {
	m.Format, m.Version = format, version
	m.First, m.Last, m.Records = w.told.First, w.told.Last, w.told.Records
	content, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("encode the manifest: %w", err)
	}
	if err := w.File(manifestName, append(content, '\n')); err != nil {
		return m, err
	}
	if err := w.zip.Close(); err != nil {
		return m, fmt.Errorf("end the bundle: %w", err)
	}
	return m, nil
}
