package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stele-runtime/stele/executors/monitor/server/journal"
	"github.com/stele-runtime/stele/executors/monitor/server/notify"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// A container that makes calls of very many kinds takes no more room than others, in what is
// journalled and reported, and each call has its answer; the next monitor counts on.
func TestManyKindsOfCalls(t *testing.T) {
	dir := t.TempDir()
	j, err := journal.Open(filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Created(&pb.Container{Id: "c"}); err != nil {
		t.Fatal(err)
	}
	config := &pb.Notifier{Path: filepath.Join(dir, "s"), Error: 1, Errors: []*pb.CallError{{Arch: 7, Number: 3, Error: 38}, {Arch: 7, Number: 5000, Error: 13}}}
	x := newNotifiers(j, slog.New(slog.DiscardHandler))
	n, err := x.open("c", config, earlier{listener: -1})
	if err != nil {
		t.Fatal(err)
	}
	const kinds, each = 10 * maxKinds, 3
	for range each {
		for i := range int32(kinds) {
			want := map[int32]uint32{3: 38}[i]
			if want == 0 {
				want = 1
			}
			if got := n.count(notify.Call{Arch: 7, Number: i}, false); got != want {
				t.Fatalf("call %d gets the error %d, want %d", i, got, want)
			}
		}
	}
	if got := n.count(notify.Call{Arch: 7, Number: 5000}, true); got != 13 {
		t.Errorf("a call of the runtime gets the error %d", got)
	}
	n.tell()
	check := func(what string, b *pb.BlockedCalls, others uint64) {
		t.Helper()
		if len(b.GetCalls()) != maxKinds || b.GetOthers() != others || b.GetCalls()[0].GetCount() != each || b.GetStop() || b.GetFirst() == 0 || b.GetLast() < b.GetFirst() {
			t.Errorf("%s: %d kinds, %d others: %v", what, len(b.GetCalls()), b.GetOthers(), b)
		}
	}
	const others = each * (kinds - maxKinds)
	check("counted", n.counted(), others)
	fresh, _, _ := x.blocked.list(0)
	if len(fresh) != 1 {
		t.Fatalf("reported: %v", fresh)
	}
	check("reported", fresh[0], others)
	record := j.Containers()[0]
	check("journalled", record.Blocked, others)
	n.close()
	if _, err := os.Lstat(config.Path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if fresh, _, _ := x.blocked.list(0); len(fresh) != 0 {
		t.Errorf("still reported: %v", fresh)
	}
	record.Notifier = config
	none := noBelongings()
	n = x.resume(record, &none)
	defer n.close()
	n.count(notify.Call{Arch: 9, Number: 1}, false)
	b := n.counted()
	if check("resumed", b, others+1); !b.Gap {
		t.Error("nobody is told that a monitor was missing")
	}
}
