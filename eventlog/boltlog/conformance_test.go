package boltlog

import (
	"path/filepath"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/logtest"
)

func TestConformance(t *testing.T) {
	logtest.Run(t, logtest.Maker{
		New: func(t testing.TB, c eventlog.Clock) eventlog.Log {
			return open(t, Options{Path: filepath.Join(t.TempDir(), "events.db"), BootID: logtest.BootID, Clock: c})
		},
		Reopen: func(t testing.TB, l eventlog.Log, c eventlog.Clock) eventlog.Log {
			path := l.(*Log).store.opener.path
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, Options{Path: path, BootID: logtest.BootID, Clock: c})
		},
		OpenBackup: openBackup,
	})
}

func openBackup(t testing.TB, path string) eventlog.Reader {
	t.Helper()
	r, err := OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// open opens a log that is closed with the test.
func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}
