package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

func mustOpen(t testing.TB, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill puts two containers and their exits into a journal.
func fill(t testing.TB, j *Journal) {
	t.Helper()
	must(t, j.Intend("pending"))
	for i, id := range []string{"a", "b"} {
		must(t, j.Intend(id))
		must(t, j.Created(&pb.Container{Id: id, Process: &pb.Process{Pid: int32(100 + i)}}))
		must(t, j.Exited(&pb.Exit{ContainerId: id, Code: int32(i)}))
	}
}

func seqs(j *Journal, after uint64) []uint64 {
	var all []uint64
	exits, _ := j.Exits(after)
	for _, e := range exits {
		all = append(all, e.Seq)
	}
	return all
}

func TestAgainAfterAStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	fill(t, j)
	must(t, j.Ack(1))
	must(t, j.Ack(1))
	must(t, j.Forget("a"))
	must(t, j.Forget("a"))
	must(t, j.Close())

	for range 2 {
		j = mustOpen(t, path)
		if j.Damage() != "" {
			t.Errorf("the journal is damaged: %s", j.Damage())
		}
		if got := j.Intents(); len(got) != 1 || got[0].Id != "pending" {
			t.Errorf("the intents are %v", got)
		}
		if got := j.Containers(); len(got) != 1 || got[0].Id != "b" || got[0].Exit.GetCode() != 1 {
			t.Errorf("the containers are %v", got)
		}
		if got := fmt.Sprint(seqs(j, 0), j.LastSeq()); got != "[2] 2" {
			t.Errorf("the exits are %s", got)
		}
		must(t, j.Close())
	}
	j = mustOpen(t, path)
	defer j.Close()
	must(t, j.SkipTo(10))
	must(t, j.SkipTo(5))
	exit := &pb.Exit{ContainerId: "b"}
	must(t, j.Exited(exit))
	if exit.Seq != 11 {
		t.Errorf("the next exit has number %d", exit.Seq)
	}
}

func TestExitsAreAnnounced(t *testing.T) {
	j := mustOpen(t, filepath.Join(t.TempDir(), "journal"))
	defer j.Close()
	fill(t, j)
	exits, grown := j.Exits(1)
	if len(exits) != 1 || exits[0].Seq != 2 {
		t.Errorf("the exits are %v", exits)
	}
	select {
	case <-grown:
		t.Error("an exit was announced that there is not")
	default:
	}
	must(t, j.Exited(&pb.Exit{ContainerId: "c"}))
	<-grown
	if got := fmt.Sprint(seqs(j, 2)); got != "[3]" {
		t.Errorf("the exits are %s", got)
	}
}

// Whatever is done to the file, the records before the damage are known, the rest is
// put aside, and no number is used twice.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	j := mustOpen(t, whole)
	fill(t, j)
	must(t, j.Close())
	data, err := os.ReadFile(whole)
	must(t, err)
	for at := range data {
		for name, damaged := range map[string][]byte{
			"cut":  data[:at],
			"flip": append(append(append([]byte{}, data[:at]...), data[at]^0x41), data[at+1:]...),
		} {
			path := filepath.Join(dir, fmt.Sprint(name, at))
			must(t, os.WriteFile(path, damaged, 0o600))
			j := mustOpen(t, path)
			aside, err := filepath.Glob(path + ".damaged-*")
			must(t, err)
			if (j.Damage() != "") != (len(aside) == 1) {
				t.Errorf("%s at %d: damage %q, put aside %v", name, at, j.Damage(), aside)
			}
			if name == "flip" && j.Damage() == "" {
				t.Errorf("a flipped bit at %d went unnoticed", at)
			}
			exit := &pb.Exit{ContainerId: "x"}
			must(t, j.Exited(exit))
			if j.Damage() != "" && exit.Seq <= damageSkip {
				t.Errorf("%s at %d: number %d was given", name, at, exit.Seq)
			}
			must(t, j.Close())
			j = mustOpen(t, path)
			if j.Damage() != "" {
				t.Errorf("%s at %d: still damaged after a start: %s", name, at, j.Damage())
			}
			must(t, j.Close())
		}
	}
}

// Any history reads the same after a start, and the file stays small.
func TestAnyHistory(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "journal")
		_ = os.Remove(path)
		j, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		ids := rapid.SampledFrom([]string{"a", "b", "c"})
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			id := ids.Draw(t, "id")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				err = j.Intend(id)
			case 1:
				err = j.Abandon(id)
			case 2:
				err = j.Created(&pb.Container{Id: id})
			case 3:
				err = j.Exited(&pb.Exit{ContainerId: id})
			case 4:
				err = j.Ack(rapid.Uint64Range(0, j.LastSeq()).Draw(t, "seq"))
			case 5:
				err = j.Forget(id)
			case 6:
				err = j.Creating(&pb.Started{Id: id, Process: &pb.Process{Pid: 7}})
			case 7:
				err = j.ExecStarted(&pb.Started{Id: id, PidFile: "/x"})
			case 8:
				err = j.ExecEnded(id)
			case 9:
				err = j.StdinClosed(id)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		before := j.state
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		after, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer after.Close()
		old, now := before.records(), after.state.records()
		if len(old) != len(now) {
			t.Fatalf("%d records became %d", len(old), len(now))
		}
		for i := range old {
			if !proto.Equal(old[i], now[i]) {
				t.Fatalf("%v became %v", old[i], now[i])
			}
		}
	})
}

func TestStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	defer j.Close()
	for i := range 20000 {
		id := fmt.Sprint("container-", i)
		must(t, j.Intend(id))
		must(t, j.Created(&pb.Container{Id: id, LogPath: "/var/log/pods/x/y/0.log"}))
		exit := &pb.Exit{ContainerId: id}
		must(t, j.Exited(exit))
		must(t, j.Ack(exit.Seq))
		must(t, j.Forget(id))
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > 2*compactAbove {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
}

// A reused id: the first container's exit is not the second's, and is kept until it is
// acknowledged although the first was forgotten.
func TestAnIdTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	first, second := &pb.Process{Pid: 7, StartTime: 1}, &pb.Process{Pid: 7, StartTime: 2}
	must(t, j.Created(&pb.Container{Id: "a", Process: first}))
	must(t, j.Exited(&pb.Exit{ContainerId: "a", Code: 5, Process: first}))
	must(t, j.Forget("a"))
	must(t, j.Created(&pb.Container{Id: "a", Process: second}))
	must(t, j.Close())
	for range 2 {
		j = mustOpen(t, path)
		exits, _ := j.Exits(0)
		if len(exits) != 1 || exits[0].Code != 5 || exits[0].Process.StartTime != 1 {
			t.Errorf("the exits are %v", exits)
		}
		if got := j.Containers(); len(got) != 1 || got[0].Exit != nil {
			t.Errorf("the containers are %v", got)
		}
		must(t, j.Close())
	}
	j = mustOpen(t, path)
	defer j.Close()
	must(t, j.Ack(1))
	if exits, _ := j.Exits(0); len(exits) != 0 {
		t.Errorf("acknowledged exits are still there: %v", exits)
	}
}
