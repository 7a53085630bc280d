package bundle

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

func made(t *testing.T, records ...*adminv1.Record) []byte {
	t.Helper()
	var to bytes.Buffer
	w, err := NewWriter(&to)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.File("node/kernel", []byte("6.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(Manifest{Stele: "v1"}); err != nil {
		t.Fatal(err)
	}
	return to.Bytes()
}

func stored(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.stele")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoundTrip(t *testing.T) {
	want := []*adminv1.Record{
		{Sequence: 7, Stream: "node", Payload: []byte{1, 2}},
		{Sequence: 9, Stream: "sandbox/a", Payload: bytes.Repeat([]byte("x"), 5<<20)},
	}
	r, err := Open(stored(t, made(t, want...)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if m := r.Manifest; m.First != 7 || m.Last != 9 || m.Records != 2 || m.Stele != "v1" {
		t.Errorf("the manifest is %+v", m)
	}
	n := 0
	if err := r.Records(func(got *adminv1.Record) error {
		if !proto.Equal(got, want[n]) {
			t.Errorf("record %d came back as %d", want[n].GetSequence(), got.GetSequence())
		}
		n++
		return nil
	}); err != nil || n != 2 {
		t.Errorf("%d records, %v", n, err)
	}
}

// What is no bundle, is damaged or is of a newer version is refused in words.
func TestOthers(t *testing.T) {
	whole := made(t, &adminv1.Record{Sequence: 1, Payload: bytes.Repeat([]byte("payload"), 1000)})
	zipped := func(files map[string]string) []byte {
		var to bytes.Buffer
		z := zip.NewWriter(&to)
		for name, content := range files {
			f, err := z.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = f.Write([]byte(content)) // into memory
		}
		_ = z.Close() // into memory
		return to.Bytes()
	}
	flipped := bytes.Clone(whole)
	flipped[60] ^= 0xff
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"empty":         {nil, "is no bundle"},
		"text":          {[]byte("no archive"), "is no bundle"},
		"cut off":       {whole[:len(whole)/2], "its end is missing"},
		"other archive": {zipped(map[string]string{"a.txt": "x"}), "has no manifest.json"},
		"other format":  {zipped(map[string]string{manifestName: `{"format": "tea"}`}), `its format is "tea"`},
		"no JSON":       {zipped(map[string]string{manifestName: `{`}), "is damaged"},
		"newer":         {zipped(map[string]string{manifestName: `{"format": "stele bundle", "version": 9}`}), "has version 9 of the format; this program reads version 1"},
		"no events":     {zipped(map[string]string{manifestName: `{"format": "stele bundle", "version": 1}`}), "has no events.pb"},
		"fewer records": {zipped(map[string]string{manifestName: `{"format": "stele bundle", "version": 1, "records": 3}`, eventsName: ""}), "damaged after 0 of 3 records"},
		"endless":       {zipped(map[string]string{manifestName: `{"format": "stele bundle", "version": 1, "records": 1}`, eventsName: "\xff\xff\xff\xff\x0f"}), "damaged after 0 of 1 records"},
		"flipped bit":   {flipped, "is damaged"},
	} {
		r, err := Open(stored(t, c.content))
		if err == nil {
			err = r.Records(func(*adminv1.Record) error { return nil })
			_ = r.Close() // read-only
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want an error that says %q", name, err, c.says)
		}
	}
}
