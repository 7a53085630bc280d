package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// compactAbove is the size, in bytes, above which the file is rewritten if it has
	// also doubled since the last time.
	compactAbove = 256 << 10
	// spare is how much room the file has beyond the size at which it is rewritten, in
	// bytes: on a full disk there is none for a second file.
	spare = 64 << 10
	// maxFile bounds what is read at the start, in bytes.
	maxFile = 256 << 20
)

// file is the journal on disk. It is not safe for concurrent use.
type file struct {
	path string
	// open is nil before the first rewriting.
	open *os.File
	size int64
	// compacted is the size after the last rewriting; 0 if that was another process's.
	compacted int64
	// behind: a record is missing, or the end is damaged. Nothing is appended until
	// the file was rewritten.
	behind bool
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

// resume opens a file of which size bytes are good, and drops the rest.
func (f *file) resume(size int) error {
	open, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	f.open, f.size = open, int64(size)
	if err := f.cut(); err != nil {
		return err
	}
	// Without room the disk is full, and the file is what there is.
	_ = f.reserve(open, f.size)
	return nil
}

// repair replaces a file of which the first good bytes are undamaged by one of these
// records, and describes the damage. The damaged end is saved, if there is room.
func (f *file) repair(good int, damaged []byte, why error, records []*pb.Record) (damage string, err error) {
	damage = fmt.Sprintf("journal: %v at offset %d; the last %d bytes ", why, good, len(damaged))
	if aside, err := f.setAside(damaged); err != nil {
		damage += fmt.Sprintf("are lost: %v", err)
	} else {
		damage += "are in " + aside
	}
	if err := f.rewrite(records); err != nil {
		f.behind = true
		return damage, f.resume(good)
	}
	return damage, nil
}

// setAside saves the damaged end of the file, and returns the name.
func (f *file) setAside(damaged []byte) (name string, err error) {
	path := fmt.Sprintf("%s.damaged-%s", f.path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		return "", errors.Join(err, os.RemoveAll(path))
	}
	return filepath.Base(path), nil
}

// hasGrown reports whether to rewrite the file.
func (f *file) hasGrown() bool { return f.size > compactAbove && f.size > 2*f.compacted }

// append adds a record. On an error the file is behind.
func (f *file) append(frame []byte) error {
	n, err := f.open.Write(frame)
	if err == nil {
		f.size += int64(n)
		return nil
	}
	f.behind = true
	err = fmt.Errorf("append to the journal: %w", err)
	if n > 0 {
		// Half a record would hide everything after it.
		err = errors.Join(err, f.cut())
	}
	return err
}

// cut drops what follows the good bytes.
func (f *file) cut() error {
	info, err := f.open.Stat()
	if err == nil && info.Size() > f.size {
		err = f.open.Truncate(f.size)
	}
	if err != nil {
		return fmt.Errorf("cut the journal to %d bytes: %w", f.size, err)
	}
	return nil
}

// reserve makes room in a file for the records up to the next rewriting and spare more.
func (f *file) reserve(open *os.File, size int64) error {
	end := max(compactAbove, 2*size) + spare
	err := unix.Fallocate(int(open.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, end-size)
	if err != nil && err != unix.EOPNOTSUPP {
		return fmt.Errorf("make room for the journal: %w", err)
	}
	return nil
}

// rewrite replaces the file by one of these records. On an error the file is as it was.
func (f *file) rewrite(records []*pb.Record) error {
	var data []byte
	for _, record := range records {
		var err error
		if data, err = appendFrame(data, record); err != nil {
			return err
		}
	}
	fresh := f.path + ".new"
	file, err := f.write(fresh, data)
	if err == nil {
		err = os.Rename(fresh, f.path)
	}
	if err != nil {
		if file != nil {
			file.Close()
		}
		// It has room that others need.
		return errors.Join(fmt.Errorf("rewrite the journal: %w", err), os.RemoveAll(fresh))
	}
	if f.open != nil {
		f.open.Close()
	}
	f.open, f.size, f.compacted, f.behind = file, int64(len(data)), int64(len(data)), false
	return nil
}

// write makes a file of data. One with room for more is wanted, unless the old file
// lacks something, or there is none.
func (f *file) write(path string, data []byte) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(data); err != nil {
		return file, err
	}
	if err := f.reserve(file, int64(len(data))); err != nil && f.open != nil && !f.behind {
		return file, err
	}
	return file, nil
}

func (f *file) close() error { return f.open.Close() }
