package storage

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/klauspost/pgzip"
)

// streamSizes are some below and above what is decompressed ahead, and at the edges of its blocks.
var streamSizes = []int{0, 1, 4 << 10, pgzip.AheadAfter - 1, pgzip.AheadAfter, pgzip.AheadAfter + 1, 2 * pgzip.AheadAfter, 1<<20 + pgzip.AheadAfter + 5}

// content is some that compresses by about a half.
func content(size int) []byte {
	made := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(size)})
	for i := 0; i < size; i += 512 {
		_, _ = source.Read(made[i:min(i+256, size)]) // never fails
	}
	return made
}

func compressed(t testing.TB, contents ...[]byte) []byte {
	t.Helper()
	var made bytes.Buffer
	for _, content := range contents {
		w, err := gzip.NewWriterLevel(&made, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return made.Bytes()
}

func decompress(stream io.Reader) ([]byte, error) {
	r, err := pgzip.NewReader(stream)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}

func TestDecompress(t *testing.T) {
	for _, size := range streamSizes {
		want := content(size)
		stream := compressed(t, want)
		for name, from := range map[string]io.Reader{
			"at once":   bytes.NewReader(stream),
			"in halves": iotest.HalfReader(bytes.NewReader(stream)),
			"with EOF":  iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			if got, err := decompress(from); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes that come %s: got %d, %v", size, name, len(got), err)
			}
		}
	}
}

func TestDecompressStreamsInARow(t *testing.T) {
	one, other := content(pgzip.AheadAfter-10), content(1<<20)
	got, err := decompress(bytes.NewReader(compressed(t, one, nil, other, one)))
	if want := bytes.Join([][]byte{one, other, one}, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d of %d bytes, %v", len(got), len(want), err)
	}
}

// No damage may pass for an end: the sums are the last thing in a stream.
func TestDecompressDamaged(t *testing.T) {
	for _, size := range []int{0, 4 << 10, 1<<20 + pgzip.AheadAfter + 5} {
		whole := compressed(t, content(size))
		for _, cut := range []int{1, 4, 8, 9, len(whole) / 2, len(whole) - 10, len(whole) - 1} {
			if cut = min(cut, len(whole)); cut == len(whole) {
				continue
			}
			if _, err := decompress(bytes.NewReader(whole[:len(whole)-cut])); err == nil {
				t.Errorf("%d bytes, of whose stream the last %d are missing: no error", size, cut)
			}
		}
		for _, at := range []int{0, 2, len(whole) - 8, len(whole) - 4} {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 1
			if _, err := decompress(bytes.NewReader(damaged)); err == nil {
				t.Errorf("%d bytes, in whose stream byte %d is wrong: no error", size, at)
			}
		}
		if _, err := decompress(bytes.NewReader(append(bytes.Clone(whole), "rubbish to follow"...))); err == nil {
			t.Errorf("%d bytes, and rubbish after them: no error", size)
		}
		if _, err := decompress(io.MultiReader(bytes.NewReader(whole[:len(whole)-1]), iotest.ErrReader(os.ErrDeadlineExceeded))); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes from a source that fails: %v", size, err)
		}
	}
}

// watchedSource gives a stream, and says if it is read after that was forbidden.
type watchedSource struct {
	t         *testing.T
	inner     io.Reader
	forbidden atomic.Bool
}

func (s *watchedSource) Read(into []byte) (int, error) {
	if s.forbidden.Load() {
		s.t.Error("a source is read after its reader was closed")
	}
	return s.inner.Read(into)
}

func TestDecompressionEndsWhenItIsClosed(t *testing.T) {
	stream := compressed(t, content(4<<20))
	for _, read := range []int64{0, 10, pgzip.AheadAfter, pgzip.AheadAfter + 1, 2 << 20, 4 << 20} {
		source := &watchedSource{t: t, inner: bytes.NewReader(stream)}
		r, err := pgzip.NewReader(source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, read); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed after %d bytes: %v", read, err)
		}
		source.forbidden.Store(true)
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrClosed) {
			t.Errorf("read %d bytes of a closed reader, %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
}

func TestReaderOfAnotherStream(t *testing.T) {
	r, err := pgzip.NewReader(bytes.NewReader(compressed(t, content(2<<20))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	want := content(100)
	if err := r.Reset(bytes.NewReader(compressed(t, want))); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := r.Reset(bytes.NewReader(nil)); err == nil {
		t.Error("the reader accepts a stream without a header")
	}
	if _, err := r.Read(make([]byte, 10)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after that: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// What streams share is used by one of them at a time, also after some of them failed.
func TestStreamsBesideEachOther(t *testing.T) {
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for round := range 4 {
				want := content(pgzip.AheadAfter/2*(i%4) + i + round)
				var stream bytes.Buffer
				w, err := pgzip.NewWriterLevel(&stream, pgzip.BestSpeed)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.Write(want); err != nil {
					t.Error(err)
				}
				if err := errors.Join(w.Close(), w.Close()); err != nil {
					t.Error(err)
				}
				if _, err := decompress(bytes.NewReader(stream.Bytes()[:stream.Len()/2])); err == nil {
					t.Error("half of a stream is whole")
				}
				if got, err := decompress(&stream); err != nil || !bytes.Equal(got, want) {
					t.Errorf("got %d of %d bytes, %v", len(got), len(want), err)
				}
			}
		})
	}
	workers.Wait()
}

func TestCompress(t *testing.T) {
	for _, size := range streamSizes {
		want := content(size)
		var stream bytes.Buffer
		w := pgzip.NewWriter(&stream)
		if err := w.SetConcurrency(1<<20, 1); err != nil {
			t.Error(err)
		}
		for half := range 2 {
			if _, err := w.Write(want[half*len(want)/2 : (half+1)*len(want)/2]); err != nil {
				t.Error(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		r, err := gzip.NewReader(&stream)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	for _, level := range []int{-3, 10} {
		if _, err := pgzip.NewWriterLevel(io.Discard, level); err == nil {
			t.Errorf("there is a level %d", level)
		}
	}
}

// failing takes some bytes and no more.
type failing struct{ takes int }

func (f *failing) Write(content []byte) (int, error) {
	if f.takes -= len(content); f.takes < 0 {
		return 0, fmt.Errorf("write: %w", os.ErrDeadlineExceeded)
	}
	return len(content), nil
}

func TestCompressWhatCannotBeWritten(t *testing.T) {
	for _, takes := range []int{0, 5, 1 << 10} {
		w := pgzip.NewWriter(&failing{takes})
		_, err := w.Write(content(1 << 20))
		if err = errors.Join(err, w.Close()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("to what takes %d bytes: %v", takes, err)
		}
		if _, err := w.Write([]byte("more")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("to a closed writer: %v", err)
		}
	}
	TestCompress(t)
}
