package client

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/projections"
)

// TestVerifyRoot: the snapshot that a daemon left in its log is held against the records.
func TestVerifyRoot(t *testing.T) {
	root := t.TempDir()
	from := &Source{Root: root, Warnings: &strings.Builder{}}
	log, err := boltlog.Open(boltlog.Options{Path: filepath.Join(root, places.EventsFile)})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := projections.Open(t.Context(), log, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lives(t, log, 0, 3)
	young := eventlog.Sequence(0)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx) }()
	for n := 4; young == 0; n++ {
		if n > 2000 {
			t.Fatal("no snapshot is saved")
		}
		lives(t, log, 10*n, 10)
		saved, found, err := log.LoadCheckpoint(t.Context(), "projections")
		if err != nil {
			t.Fatal(err)
		}
		if found {
			young = saved.Sequence
		}
	}
	cancel()
	<-ended
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	v, err := from.Verify(t.Context())
	if err != nil || v.Difference != "" || v.Sequence < uint64(young) || v.Of != "the snapshot" || v.Records < 2000 || v.Pods == 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := (&Source{Root: t.TempDir(), Warnings: &strings.Builder{}}).Verify(t.Context()); err == nil {
		t.Error("of a directory without a log")
	}
	empty := t.TempDir()
	if log, err = boltlog.Open(boltlog.Options{Path: filepath.Join(empty, places.EventsFile)}); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Source{Root: empty, Warnings: &strings.Builder{}}).Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "has no snapshot yet") {
		t.Errorf("of a young log: %v", err)
	}
}
