package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/projections"
)

// bookmarkLine has a fixed length, so that a new line replaces the old one whole.
const bookmarkLine = "%020d %010d\n"

// Bookmark is a file in the state directory: it outlives the daemon, and need not outlive
// the node's boot. Nothing is synced.
type Bookmark struct{ file *os.File }

// OpenBookmark opens the bookmark, or makes an empty one. Close must be called.
func OpenBookmark(state string) (*Bookmark, error) {
	file, err := os.OpenFile(filepath.Join(state, "delivered"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the place of the last delivered pod event: %w", err)
	}
	return &Bookmark{file}, nil
}

// Close closes the file.
func (b *Bookmark) Close() { _ = b.file.Close() } // nothing is buffered

// Load is part of projections.Bookmark.
func (b *Bookmark) Load() (projections.Place, bool, error) {
	line := make([]byte, len(fmt.Sprintf(bookmarkLine, 0, 0))+1)
	n, err := b.file.ReadAt(line, 0)
	if n == 0 && errors.Is(err, io.EOF) {
		return projections.Place{}, false, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return projections.Place{}, false, err
	}
	var sequence uint64
	var index uint32
	if _, err := fmt.Sscanf(string(line[:n]), "%d %d\n", &sequence, &index); err != nil || fmt.Sprintf(bookmarkLine, sequence, index) != string(line[:n]) {
		return projections.Place{}, false, fmt.Errorf("%s has %q, want two numbers", b.file.Name(), line[:n])
	}
	return projections.Place{Sequence: eventlog.Sequence(sequence), Index: index}, true, nil
}

// Save is part of projections.Bookmark.
func (b *Bookmark) Save(p projections.Place) error {
	_, err := b.file.WriteAt(fmt.Appendf(nil, bookmarkLine, p.Sequence, p.Index), 0)
	return err
}

// Clear is part of projections.Bookmark.
func (b *Bookmark) Clear() error { return b.file.Truncate(0) }
