package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// compactAbove is the size, in bytes, above which the file is rewritten if it has
	// also doubled since the last time.
	compactAbove = 256 << 10
	// maxFile bounds what is read at the start, in bytes.
	maxFile = 256 << 20
)

// file is the journal on disk. It is not safe for concurrent use.
type file struct {
	path string
	// open is nil before the first rewriting.
	open *os.File
	size int64
	// compacted is the size after the last rewriting.
	compacted int64
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return data, nil
}

// setAside saves the damaged end of the file, and describes it.
func (f *file) setAside(damaged []byte, offset int, why error) (damage string, err error) {
	aside := fmt.Sprintf("%s.damaged-%s", f.path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.WriteFile(aside, damaged, 0o600); err != nil {
		return "", fmt.Errorf("put the damaged part of the journal aside: %w", err)
	}
	return fmt.Sprintf("journal: %v at offset %d; the last %d bytes are in %s", why, offset, len(damaged), filepath.Base(aside)), nil
}

// hasGrown reports whether to rewrite the file.
func (f *file) hasGrown() bool { return f.size > compactAbove && f.size > 2*f.compacted }

func (f *file) append(frame []byte) error {
	n, err := f.open.Write(frame)
	f.size += int64(n)
	if err != nil {
		return fmt.Errorf("append to the journal: %w", err)
	}
	return nil
}

// rewrite replaces the file by one of these records.
func (f *file) rewrite(records []*pb.Record) error {
	var data []byte
	for _, record := range records {
		var err error
		if data, err = appendFrame(data, record); err != nil {
			return err
		}
	}
	fresh := f.path + ".new"
	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite the journal: %w", err)
	}
	if _, err = file.Write(data); err == nil {
		err = os.Rename(fresh, f.path)
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("rewrite the journal: %w", err)
	}
	if f.open != nil {
		f.open.Close()
	}
	f.open, f.size, f.compacted = file, int64(len(data)), int64(len(data))
	return nil
}

func (f *file) close() error { return f.open.Close() }
