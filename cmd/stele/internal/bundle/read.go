package bundle

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

const (
	manifestMost = 1 << 20
	// recordMost bounds a record, in bytes; the log's own limit is smaller.
	recordMost = 64 << 20
)

// Reader reads a bundle.
type Reader struct {
	Manifest Manifest

	path string
	zip  *zip.ReadCloser
}

// Open opens a bundle. Its errors say whether the file is none, is damaged, or is of a newer
// version.
func Open(path string) (*Reader, error) {
	z, err := zip.OpenReader(path)
	if errors.Is(err, zip.ErrFormat) {
		return nil, fmt.Errorf("%s is no bundle of stele log export, or its end is missing", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the bundle: %w", err)
	}
	r := &Reader{path: path, zip: z}
	if err := r.readManifest(); err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.zip.Close() }

func (r *Reader) readManifest() error {
	f, err := r.zip.Open(manifestName)
	if err != nil {
		return fmt.Errorf("%s is no bundle of stele log export: it has no %s", r.path, manifestName)
	}
	defer func() { _ = f.Close() }() // read-only
	content, err := io.ReadAll(io.LimitReader(f, manifestMost))
	if err != nil {
		return fmt.Errorf("%s is damaged: %s: %w", r.path, manifestName, err)
	}
	switch err := json.Unmarshal(content, &r.Manifest); {
	case err != nil:
		return fmt.Errorf("%s is damaged: %s: %w", r.path, manifestName, err)
	case r.Manifest.Format != format:
		return fmt.Errorf("%s is no bundle of stele log export: its format is %.40q", r.path, r.Manifest.Format)
	case r.Manifest.Version != version:
		return fmt.Errorf("%s has version %d of the format; this program reads version %d", r.path, r.Manifest.Version, version)
	}
	return nil
}

// Records calls each with every record, in order. If the file is damaged, the records before
// the damage are given first.
func (r *Reader) Records(each func(*adminv1.Record) error) error {
	f, err := r.zip.Open(eventsName)
	if err != nil {
		return fmt.Errorf("%s is damaged: it has no %s", r.path, eventsName)
	}
	defer func() { _ = f.Close() }() // read-only
	from := bufio.NewReader(f)
	for n := 0; ; n++ {
		record := &adminv1.Record{}
		err := protodelim.UnmarshalOptions{MaxSize: recordMost}.UnmarshalFrom(from, record)
		if errors.Is(err, io.EOF) && n == r.Manifest.Records {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s is damaged after %d of %d records: %w", r.path, n, r.Manifest.Records, err)
		}
		if err := each(record); err != nil {
			return err
		}
	}
}
