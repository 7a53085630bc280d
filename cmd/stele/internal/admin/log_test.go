package admin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	adminv1 "github.com/stele-runtime/stele/proto/admin/v1"
)

// onDisk puts a log on the disk in the place of the one in memory.
func (d *desk) onDisk() string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "events.db")
	log, err := boltlog.Open(boltlog.Options{Path: path})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = log.Close() })
	d.parts.Log = log
	return path
}

func TestBackupLog(t *testing.T) {
	d := newDesk(t)
	path := d.onDisk() + ".copy"
	made, err := d.BackupLog(t.Context(), &adminv1.BackupLogRequest{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != made.GetBytes() || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: the answer is %v", info, err, made)
	}
	copied, err := boltlog.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = copied.Close() // read-only
	for _, refused := range []struct {
		path string
		kind fault.Kind
	}{
		{"", fault.Invalid}, {"copy.db", fault.Invalid}, {"/tmp/../copy.db", fault.Invalid}, {path, fault.Exists},
		{filepath.Join(path, "none"), fault.Internal}, {path + ".none/copy.db", fault.NotFound}, {filepath.Dir(path), fault.Exists},
	} {
		_, err := d.BackupLog(t.Context(), &adminv1.BackupLogRequest{Path: refused.path})
		if err == nil || refused.kind != fault.Internal && (fault.KindOf(err) != refused.kind || !strings.Contains(err.Error(), refused.path)) {
			t.Errorf("%q: %v, want %s", refused.path, err, refused.kind)
		}
	}
}

func TestVerifyLog(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	d.append("node", codec.Encoded{Type: "node.Unheard.v1.skippable", Schema: 1}, codec.Encoded{Type: "node.Unheard.v2", Schema: 1})
	found, err := d.VerifyLog(t.Context(), &adminv1.VerifyLogRequest{})
	if err != nil || found.GetRecords() != 5 || found.GetDamaged() != 0 || found.GetPassedOver() != 1 || found.GetUnreadable() != 1 {
		t.Errorf("found %v, %v", found, err)
	}
}

func TestCompactLog(t *testing.T) {
	d := newDesk(t)
	d.ended("e1", "past", "f1")
	if _, err := d.CompactLog(t.Context(), &adminv1.CompactLogRequest{}); err != nil {
		t.Error(err)
	}
	s, err := d.LogStats(t.Context(), &adminv1.LogStatsRequest{})
	if err != nil || s.GetKeptRecords() != 3 || s.GetFirstSequence() != 1 || s.GetRecordBytes() == 0 || s.GetProblem() != "" {
		t.Errorf("%v, %v", s, err)
	}
}
