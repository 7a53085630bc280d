package memlog_test

import (
	"errors"
	"testing"

	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/logtest"
	"github.com/stele-runtime/stele/eventlog/memlog"
)

func TestConformance(t *testing.T) {
	options := func(c eventlog.Clock) memlog.Options { return memlog.Options{BootID: logtest.BootID, Clock: c} }
	logtest.Run(t, logtest.Maker{
		New: func(t testing.TB, c eventlog.Clock) eventlog.Log {
			l := memlog.New(options(c))
			t.Cleanup(func() { l.Close() })
			return l
		},
		Reopen: func(t testing.TB, l eventlog.Log, c eventlog.Clock) eventlog.Log {
			again := memlog.Reopen(l.(*memlog.Log), options(c))
			t.Cleanup(func() { again.Close() })
			return again
		},
		OpenBackup: func(t testing.TB, path string) eventlog.Reader {
			l, err := memlog.OpenBackup(path, options(logtest.NewClock()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			return l
		},
	})
}

func TestFail(t *testing.T) {
	l := memlog.New(memlog.Options{})
	defer l.Close()
	a := eventlog.Append{Stream: "s", Entries: []eventlog.Entry{{Type: "t"}}}
	full := errors.New("disk full")
	l.Fail(full)
	if _, err := l.Append(t.Context(), a); !errors.Is(err, eventlog.ErrUnavailable) || !errors.Is(err, full) {
		t.Errorf("Append: %v", err)
	}
	if err := l.SaveCheckpoint(t.Context(), "x", eventlog.Delta{}); !errors.Is(err, full) {
		t.Errorf("SaveCheckpoint: %v", err)
	}
	if err := l.Health(); !errors.Is(err, full) {
		t.Errorf("Health: %v", err)
	}
	l.Fail(nil)
	if _, err := l.Append(t.Context(), a); err != nil || l.Health() != nil {
		t.Errorf("after the failure: %v, %v", err, l.Health())
	}
}
