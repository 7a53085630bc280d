package pump

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// No line is lost or doubled while the log is renamed and reopened, again and again, at
// full load.
func TestRotationUnderLoad(t *testing.T) {
	t.Logf("go test -run TestRotationUnderLoad -seed %d", *seed)
	o := start(t, 0)
	if err := unix.SetNonblock(o.write, false); err != nil {
		t.Fatal(err)
	}
	logs := &logs{dir: filepath.Dir(o.path), listeners: map[string]*listener{"stdout": {speaker: newSpeaker(*seed), pieces: 1 << 60}}}
	stop, ended := make(chan struct{}), make(chan error, 1)
	var pieces int
	go func() {
		var err error
		pieces, err = newSpeaker(*seed).speak(os.NewFile(uintptr(o.write), "pipe"), rand.New(rand.NewPCG(*seed, 1)), stop)
		ended <- err
	}()
	for range 300 {
		logs.rotate(t)
		if err := o.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	o.drained()
	l := logs.listeners["stdout"]
	l.pieces -= 1<<60 - pieces
	logs.rotate(t)
	if err := errors.Join(logs.read(0), l.end()); err != nil {
		t.Error(err)
	}
	t.Logf("%d bytes", l.heard)
}

// A line without an end costs no memory: it is written in pieces.
func TestEndlessLine(t *testing.T) {
	o := start(t, 0)
	if err := unix.SetNonblock(o.write, false); err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte{'x'}, 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const blocks = 1 << 10
	for i := range blocks {
		for done := 0; done < len(block); {
			n, err := unix.Write(o.write, block[done:])
			if err != nil && err != unix.EINTR {
				t.Fatal(err)
			}
			done += max(0, n)
		}
		if i%64 == 63 && i < blocks-1 {
			// Keeps the disk from filling up.
			o.drained()
			if err := os.Truncate(o.path, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.drained()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated", grown)
	}
	data, err := os.ReadFile(o.path)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for line := range bytes.Lines(data) {
		_, content, err := parse(line)
		if err != nil || bytes.Contains(content, []byte("\n")) {
			t.Fatalf("a record is not a piece: %v", err)
		}
		size += len(content)
	}
	if size < 63<<20 {
		t.Errorf("the log has %d bytes of it", size)
	}
	unix.Close(o.write)
}
