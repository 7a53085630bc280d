package timeline

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/container"
)

func TestPoint(t *testing.T) {
	first, last := Record{Sequence: 10, Time: epoch}, Record{Sequence: 20, Time: epoch.Add(time.Minute)}
	for _, c := range []struct {
		at    Point
		first Record
		now   time.Time
		says  string
	}{
		{Point{}, first, last.Time, ""},
		{Point{}, Record{}, time.Time{}, ""},
		{Point{Sequence: 10}, first, last.Time, ""},
		{Point{Sequence: 20}, first, last.Time, ""},
		{Point{Time: epoch.Add(time.Second)}, first, epoch.Add(time.Second), ""},
		{Point{Time: epoch}, first, epoch, ""},
		{Point{Sequence: 9}, first, time.Time{}, "there is no sequence 9: the log begins with 10"},
		{Point{Sequence: 21}, first, time.Time{}, "there is no sequence 21: the log ends with 20"},
		{Point{Time: epoch.Add(-1)}, first, time.Time{}, "is before the log's first record, of 4 May 03:00:00 UTC"},
		{Point{Sequence: 1}, Record{}, time.Time{}, "there is no sequence 1: the log has no records"},
	} {
		now, err := c.at.Reached(c.first, last)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%v: %v, want %q", c.at, err, c.says)
		}
		if err == nil && !now.Equal(c.now) && c.first.Sequence > 0 {
			t.Errorf("%v counts to %v, want %v", c.at, now, c.now)
		}
	}
	for at, want := range map[Point]bool{
		{}: true, {Sequence: 15}: true, {Sequence: 14}: false, {Time: epoch}: true, {Time: epoch.Add(-1)}: false,
	} {
		if got := at.Has(15, epoch); got != want {
			t.Errorf("%v has the record: %t", at, got)
		}
	}
}

// TestStatus: what a table says of each story's end.
func TestStatus(t *testing.T) {
	want := map[string]string{
		"oom_crash_loop": "shop/web ready; web gone (137, OOM), gone (137, OOM), exited (137, OOM)", "cni_fails_detach_owed": "shop/web failing",
		"reboot": "shop/web lost; web exited (code unknown)", "slow_pull": "shop/web ready; web running", "stop_after_grace": "shop/web ready; web exited (137)",
		"waits_for_network": "shop/web creating", "failed_with_a_debt": "shop/web failed", "start_fails": "shop/web ready; web start failed",
		"forbidden_calls": "shop/web ready; web exited (137)", "stop_at_once": "shop/web ready; web exited (137)",
		"stop_by_pod": "shop/web stopping; web exited (137)", "removed_while_running": "shop/web ready; web removing",
		"removed_with_its_pod": "shop/web stopping; web removing", "killed_by_nobody_knows": "shop/web ready; web exited (137)",
		"oom_of_the_pod": "shop/web ready; web exited (137, OOM)",
	}
	for name, s := range stories(t) {
		line := timelineOf(s.records)
		var said []string
		for _, p := range line.Pods() {
			said = append(said, p.Title()+" "+p.Status())
			var all []string
			for _, c := range line.Containers(p) {
				all = append(all, c.Status())
				if c.Since().IsZero() || c.Since().After(line.Last) || line.Title(c) != "shop/web/web" {
					t.Errorf("%s: %s is so since %v", name, line.Title(c), c.Since())
				}
			}
			if len(all) > 0 {
				said = append(said, "web "+strings.Join(all, ", "))
			}
			if p.Since().IsZero() {
				t.Errorf("%s: pod %s since %v", name, p.Status(), p.Since())
			}
		}
		if got := strings.Join(said, "; "); got != want[name] {
			t.Errorf("%s: %s, want %s", name, got, want[name])
		}
	}
}

func TestDifferences(t *testing.T) {
	s := stories(t)["oom_crash_loop"]
	before := timelineOf(s.records[:11]) // the first container was started
	var got []string
	for _, d := range Differences(before, timelineOf(s.records)) {
		got = append(got, d.Title+": "+d.Before+" → "+d.After)
	}
	want := []string{"shop/web/web: running → gone (137, OOM)", "shop/web/web@2:  → exited (137, OOM)"}
	if !slices.Equal(got, want) {
		t.Errorf("the differences are %q, want %q", got, want)
	}
	if same := Differences(before, before); len(same) > 0 {
		t.Errorf("nothing changed but %v", same)
	}
	s = stories(t)["cni_fails_detach_owed"]
	owed := Differences(New(), timelineOf(s.records))
	if len(owed) != 1 || len(owed[0].Owes) != 1 || !strings.Contains(owed[0].Owes[0], "the network is not detached") {
		t.Errorf("the differences are %+v", owed)
	}
	if back := Differences(timelineOf(s.records), timelineOf(stories(t)["failed_with_a_debt"].records)); len(back) != 1 || len(back[0].Owes)+len(back[0].Settled) > 0 {
		t.Errorf("a debt that stays is none that changes: %+v", back)
	}
	if debts := timelineOf(s.records).Debts(); len(debts) != 1 || !strings.HasPrefix(debts[0], "shop/web: the network is not detached") {
		t.Errorf("owed are %q", debts)
	}
}

// TestTeller: names are known from what was told before, and learnt from a stream's first
// record.
func TestTeller(t *testing.T) {
	records := stories(t)["oom_crash_loop"].records
	teller := NewTeller()
	abouts := map[string]bool{}
	for _, r := range records {
		told := teller.Tell(r)
		if told.Words == "" || told.Event == "" {
			t.Errorf("record %d: %+v", r.Sequence, told)
		}
		abouts[told.About] = true
	}
	for _, want := range []string{"node", "shop/web", "shop/web/web", "shop/web/web@1", "shop/web/web@2"} {
		if !abouts[want] {
			t.Errorf("nothing is about %s: %v", want, abouts)
		}
	}
	last, late := records[len(records)-1], NewTeller()
	if late.Knows(last.Stream) || !late.Knows("node") || late.Knows("image/x") {
		t.Error("a teller knows what it was not told")
	}
	if got := late.Tell(last).About; got != "container "+last.Stream[len("container/"):][:12] {
		t.Errorf("without names it is about %q", got)
	}
	for _, r := range records {
		if r.Stream == last.Stream && r.Version == 1 {
			of, has := Sandbox(r)
			if !has || of != "sandbox/"+pod1 {
				t.Errorf("its sandbox is %q, %t", of, has)
			}
			late.Tell(records[1]) // the pod's request
			late.Tell(r)
		}
	}
	if told := late.Tell(last); told.About != "shop/web/web@2" || !told.Bad || !strings.Contains(told.Words, "out of memory") {
		t.Errorf("with names: %+v", told)
	}
	if told := late.Tell(Record{Stream: "container/x", Version: 2, Type: "container.New.v9", Schema: 1}); !told.Bad || !strings.Contains(told.Words, "which this version cannot read") {
		t.Errorf("an event of another version: %+v", told)
	}
}

func TestMatches(t *testing.T) {
	s := tell(t)
	s.ready(pod1, "web", 0)
	s.create(pod1, "cccc1", 0)
	s.create(pod1, "cccc2", 1)
	s.ready(pod2, "db", 0)
	line := timelineOf(s.records)
	for text, want := range map[string]string{
		"": "web db cccc1 cccc2", "web": "web cccc1 cccc2", "db": "db", "shop/web/web@0": "cccc1", "cccc": "cccc1 cccc2", "nobody": "", "aaaa": "web db cccc1 cccc2",
	} {
		var names []Name
		if text != "" {
			n, err := ParseName(text)
			if err != nil {
				t.Fatal(err)
			}
			names = []Name{n}
		}
		var got []string
		pods, containers := line.Matches(names)
		for _, p := range pods {
			got = append(got, p.State.Name.Name)
		}
		for _, c := range containers {
			got = append(got, string(c.State.ID))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q matches %q, want %q", text, got, want)
		}
	}
	if (&Pod{}).Gone() || (&Container{}).Gone() || (&Container{}).Status() != "unknown" || (&Pod{}).Status() != "unknown" {
		t.Error("what no record spoke of is gone")
	}
	removed := container.Exit{Code: 3}
	if got := exitShort(removed); got != "3" {
		t.Errorf("an exit is %q", got)
	}
}
