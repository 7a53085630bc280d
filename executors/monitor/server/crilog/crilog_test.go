package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 1, time.FixedZone("far", 7200))

const noonText = "2026-01-02T10:00:00.000000001Z"

func open(t *testing.T, max int64) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pod", "container", "0.log")
	f, err := Open(path, max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f, path
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFormat(t *testing.T) {
	long := strings.Repeat("x", MaxContent)
	for _, test := range []struct {
		name, in   string
		want, rest string
	}{
		{"a line", "hello\n", "F hello\n", ""},
		{"an empty line", "\n", "F \n", ""},
		{"two lines", "a\nb\n", "F a\nF b\n", ""},
		{"no end", "a\nb", "F a\n", "b"},
		{"not a byte too long", long + "\n", "F " + long + "\n", ""},
		{"a byte too long", long + "y\n", "P " + long + "\nF y\n", ""},
		{"perhaps too long", long, "", long},
		{"far too long", long + long + "y", "P " + long + "\nP " + long + "\n", "y"},
		{"binary", "\x00\xff\r\n", "F \x00\xff\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, path := open(t, 0)
			rest := f.Append(NewScratch(), &Batch{Stream: Stderr, Time: noon, Data: []byte(test.in)})
			if string(rest) != test.rest {
				t.Errorf("the rest is %.40q", rest)
			}
			want := ""
			for line := range strings.Lines(test.want) {
				want += noonText + " stderr " + line
			}
			if got := content(t, path); got != want {
				t.Errorf("the log has %.200q, want %.200q", got, want)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	f, path := open(t, 0)
	s := NewScratch()
	for _, test := range []struct {
		stream Stream
		data   string
		rest   Rest
	}{
		{Stdout, "", Part},
		{Stdout, "a", Part},
		{Stdout, "", Keep},
		{Stdout, "\n", Keep},
		{Stderr, "c\nd", Part},
	} {
		batch := &Batch{Stream: test.stream, Time: noon, Data: []byte(test.data), Rest: test.rest}
		if rest := f.Append(s, batch); len(rest) > 0 {
			t.Errorf("%+v: the rest is %q", test, rest)
		}
	}
	want := ""
	for _, record := range []string{"stdout P a", "stdout F ", "stderr F c", "stderr P d"} {
		want += noonText + " " + record + "\n"
	}
	if got := content(t, path); got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// However the bytes are split into reads, the log is the same, whatever its limit; and
// no record is too long.
func TestAnyBytesInAnyPieces(t *testing.T) {
	dir := t.TempDir()
	s := NewScratch()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "0.log")
		_ = os.Remove(path)
		f, err := Open(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := drawOutput(t)
		batch := &Batch{Stream: Stdout, Time: noon}
		for rest := want; len(rest) > 0; {
			n := rapid.IntRange(1, min(len(rest), 64<<10)).Draw(t, "read")
			batch.Data = append(bytes.Clone(batch.Data), rest[:n]...)
			batch.Rest = rapid.SampledFrom([]Rest{Keep, Keep, Part}).Draw(t, "rest")
			batch.Data = f.Append(s, batch)
			rest = rest[n:]
		}
		batch.Rest = Part
		f.Append(s, batch)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("the log says %.100q (%d bytes), want %.100q (%d)", got, len(got), want, len(want))
		}
	})
}

func drawOutput(t *rapid.T) []byte {
	var out []byte
	for range rapid.IntRange(0, 8).Draw(t, "lines") {
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(MaxContent-2, MaxContent+2), rapid.IntRange(0, 100<<10)).Draw(t, "size")
		fill := rapid.SampledFrom([]byte("x\x00\xff F")).Draw(t, "fill")
		out = append(out, bytes.Repeat([]byte{fill}, size)...)
		if rapid.Bool().Draw(t, "ended") {
			out = append(out, '\n')
		}
	}
	return out
}

// decode returns what the container wrote.
func decode(log []byte) ([]byte, error) {
	var out []byte
	for line := range bytes.Lines(log) {
		record, ok := bytes.CutPrefix(line, []byte(noonText+" stdout "))
		if !ok || len(record) < 3 || record[1] != ' ' || record[len(record)-1] != '\n' {
			return nil, fmt.Errorf("%.100q is no record", line)
		}
		content := record[2 : len(record)-1]
		if len(content) > MaxContent {
			return nil, fmt.Errorf("a record has %d bytes", len(content))
		}
		out = append(out, content...)
		if record[0] == 'F' {
			out = append(out, '\n')
		}
	}
	return out, nil
}

func TestLimit(t *testing.T) {
	const limit = 1000
	f, path := open(t, limit)
	s := NewScratch()
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for i := range 100 {
		f.Append(s, &Batch{Time: noon, Data: fmt.Appendf(nil, "line %d\nagain %d\n", i, i)})
		info, err := os.Stat(path)
		if err != nil || info.Size() > limit {
			t.Fatalf("the log has %d bytes, %v", info.Size(), err)
		}
	}
	if got := content(t, path); !strings.HasSuffix(got, " F again 99\n") {
		t.Errorf("the log ends with %q", got)
	}
	// Readers that had the old one open can read it to its end.
	info, err := reader.Stat()
	if err != nil || info.Size() == 0 || info.Size() > limit {
		t.Errorf("the first file has %d bytes, %v", info.Size(), err)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("the directory has %v, %v", names, err)
	}
	// A record that is larger than the limit is written all the same.
	f.Append(s, &Batch{Time: noon, Data: append(bytes.Repeat([]byte("x"), 2*limit), '\n')})
	if got := content(t, path); len(got) < 2*limit {
		t.Errorf("the log has %d bytes", len(got))
	}
}

func TestClosed(t *testing.T) {
	f, path := open(t, 0)
	f.Close()
	f.Append(NewScratch(), &Batch{Time: noon, Data: []byte("lost\n")})
	if lost, err := f.Lost(); lost != 4 || err == nil {
		t.Errorf("%d bytes are lost, %v", lost, err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	f.Append(NewScratch(), &Batch{Time: noon, Data: []byte("kept\n")})
	if got := content(t, path); got != noonText+" stdout F kept\n" {
		t.Errorf("the log has %q", got)
	}
}

func TestDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"relative/0.log", dir + "/../0.log", dir + "//0.log", dir + "/file/0.log", dir + "/link/0.log", dir + "/link/new/0.log", dir} {
		if f, err := Open(path, 0); err == nil {
			f.Close()
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory was made through a link: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	path := filepath.Join(b.TempDir(), "0.log")
	f, err := Open(path, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	s := NewScratch()
	data := bytes.Repeat(append(bytes.Repeat([]byte("x"), 99), '\n'), 655)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			if err := os.Truncate(path, 0); err != nil {
				b.Fatal(err)
			}
		}
		f.Append(s, &Batch{Time: noon, Data: data})
	}
}
