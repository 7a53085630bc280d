package pgzip

import (
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/gzip"
)

const (
	// AheadAfter is how many bytes a stream must have given before it is decompressed ahead of its
	// reader, on another CPU. Most layers, and all records of layers, are smaller.
	AheadAfter = 256 << 10
	// aheadBlock and aheadBlocks are how far ahead, in bytes and in blocks.
	aheadBlock  = 256 << 10
	aheadBlocks = 4
)

var (
	readers = sync.Pool{New: func() any { return new(gzip.Reader) }}
	blocks  = sync.Pool{New: func() any { return new([aheadBlock]byte) }}
)

// Reader decompresses a gzip stream, or several one after the other.
type Reader struct {
	inner *gzip.Reader // nil once it is closed
	given int          // bytes, until it goes ahead
	ahead *ahead       // nil before
}

// NewReader reads the stream's header. The caller must close the reader, which does not close the
// stream.
func NewReader(stream io.Reader) (*Reader, error) {
	r := &Reader{}
	if err := r.Reset(stream); err != nil {
		return nil, err
	}
	return r, nil
}

// Reset makes the reader one of another stream.
func (r *Reader) Reset(stream io.Reader) error {
	if err := r.Close(); err != nil {
		return err
	}
	inner := readers.Get().(*gzip.Reader)
	if err := inner.Reset(stream); err != nil {
		readers.Put(inner)
		return err
	}
	*r = Reader{inner: inner}
	return nil
}

// Read returns io.EOF only if the sums of all that was read are right.
func (r *Reader) Read(into []byte) (int, error) {
	if r.inner == nil {
		return 0, os.ErrClosed
	}
	if r.ahead == nil && r.given < AheadAfter {
		n, err := r.inner.Read(into)
		r.given += n
		return n, err
	}
	if r.ahead == nil {
		r.ahead = goAhead(r.inner)
	}
	return r.ahead.Read(into)
}

// Close waits for a read of the stream that is under way.
func (r *Reader) Close() error {
	if r.inner == nil {
		return nil
	}
	if r.ahead != nil {
		r.ahead.close()
		r.ahead = nil
	}
	readers.Put(r.inner)
	r.inner = nil
	return nil
}

// ahead reads from a stream before it is asked to. It has one goroutine, from goAhead to close.
type ahead struct {
	full    chan *block // closed at the end of the stream
	free    chan *block
	quit    chan struct{}
	current *block
}

type block struct {
	space *[aheadBlock]byte
	rest  []byte // of space, not yet read
	err   error  // after rest
}

func goAhead(stream io.Reader) *ahead {
	a := &ahead{full: make(chan *block, aheadBlocks), free: make(chan *block, aheadBlocks), quit: make(chan struct{})}
	for range aheadBlocks {
		a.free <- &block{space: blocks.Get().(*[aheadBlock]byte)}
	}
	go a.run(stream)
	return a
}

func (a *ahead) run(stream io.Reader) {
	defer close(a.full)
	for {
		var b *block
		select {
		case b = <-a.free:
		case <-a.quit:
			return
		}
		n := 0
		for n < len(b.space) && b.err == nil {
			var read int
			read, b.err = stream.Read(b.space[n:])
			n += read
		}
		b.rest = b.space[:n]
		failed := b.err != nil
		a.full <- b // it has room for all blocks
		if failed {
			return
		}
	}
}

func (a *ahead) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	if a.current == nil {
		a.current = <-a.full
	}
	b := a.current
	n := copy(into, b.rest)
	b.rest = b.rest[n:]
	switch {
	case len(b.rest) > 0:
		return n, nil
	case b.err != nil:
		return n, b.err // from now on
	}
	a.current = nil
	a.free <- b
	return n, nil
}

// close ends the goroutine.
func (a *ahead) close() {
	close(a.quit)
	give := func(b *block) { blocks.Put(b.space) }
	if a.current != nil {
		give(a.current)
	}
	for b := range a.full {
		give(b)
	}
	for len(a.free) > 0 {
		give(<-a.free)
	}
}
