package pgzip

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// Levels of compression.
const (
	BestSpeed          = gzip.BestSpeed
	BestCompression    = gzip.BestCompression
	DefaultCompression = gzip.DefaultCompression
)

// writers are those that are not in use, by level.
var writers [BestCompression - DefaultCompression + 1]sync.Pool

// Writer compresses what is written to it.
type Writer struct {
	inner *gzip.Writer // nil once it is closed
	level int
}

// NewWriter compresses at the default level.
func NewWriter(to io.Writer) *Writer {
	w, _ := NewWriterLevel(to, DefaultCompression) // which exists
	return w
}

// NewWriterLevel fails if there is no such level. The caller must close the writer, or the stream
// has no end; to is not closed.
func NewWriterLevel(to io.Writer, level int) (*Writer, error) {
	if level < DefaultCompression || level > BestCompression {
		return nil, fmt.Errorf("gzip has no level %d", level)
	}
	w := &Writer{level: level}
	if known, ok := w.pool().Get().(*gzip.Writer); ok {
		known.Reset(to)
		w.inner = known
		return w, nil
	}
	var err error
	w.inner, err = gzip.NewWriterLevel(to, level)
	return w, err
}

func (w *Writer) pool() *sync.Pool { return &writers[w.level-DefaultCompression] }

// SetConcurrency is for a writer that compresses blocks beside each other. This one has one.
func (*Writer) SetConcurrency(int, int) error { return nil }

func (w *Writer) Write(content []byte) (int, error) {
	if w.inner == nil {
		return 0, os.ErrClosed
	}
	return w.inner.Write(content)
}

// Flush writes all that was given so far.
func (w *Writer) Flush() error {
	if w.inner == nil {
		return os.ErrClosed
	}
	return w.inner.Flush()
}

// Close ends the stream. Once closed, a writer stays so.
func (w *Writer) Close() error {
	if w.inner == nil {
		return nil
	}
	err := w.inner.Close()
	w.inner.Reset(nil)
	w.pool().Put(w.inner)
	w.inner = nil
	return err
}
