package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// pods is a tree of counts as v2 has them.
type pods struct {
	*testing.T
	root string
}

func (p pods) file(dir string) string { return filepath.Join(p.root, dir, eventsV2) }

// count sets the kills of a cgroup.
func (p pods) count(dir string, kills int) {
	p.Helper()
	if err := os.MkdirAll(filepath.Join(p.root, dir), 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(p.file(dir), fmt.Appendf(nil, "low 0\noom 9\noom_kill %d\n", kills), 0o644); err != nil {
		p.Fatal(err)
	}
}

func (p pods) remove(dir string) {
	p.Helper()
	if err := os.RemoveAll(filepath.Join(p.root, dir)); err != nil {
		p.Fatal(err)
	}
}

func TestLedger(t *testing.T) {
	p := pods{t, t.TempDir()}
	for _, dir := range []string{"pod", "pod/a.scope", "pod/b.scope/container", "pod/c.scope"} {
		p.count(dir, 0)
	}
	p.count("pod", 5) // of earlier containers
	l := NewLedger()
	mark := func(dir string) OOMMark { return OOMMark{File: p.file(dir)} }
	for id, dir := range map[string]string{"a": "pod/a.scope", "b": "pod/b.scope/container", "c": "pod/c.scope"} {
		l.Enter(id, p.file(dir))
	}
	// A process of c is killed, and c lives on. Then a's cgroup goes without a kill.
	p.count("pod/c.scope", 1)
	p.count("pod", 6)
	p.remove("pod/a.scope")
	if l.Leave("a", mark("pod/a.scope"), false) {
		t.Error("a kill in c was blamed on a")
	}
	// b is killed, and its scope is gone before anybody looks.
	p.count("pod", 7)
	p.remove("pod/b.scope")
	if !l.Leave("b", mark("pod/b.scope/container"), true) {
		t.Error("the kill of b was lost")
	}
	if !l.Leave("c", mark("pod/c.scope"), true) {
		t.Error("the kill in c was lost")
	}
	if len(l.above) != 0 {
		t.Errorf("accounts are left: %v", l.above)
	}
	// The next container of the pod begins anew; another monitor finds it with kills.
	p.count("pod/d.scope", 0)
	l.Enter("d", p.file("pod/d.scope"))
	p.remove("pod/d.scope")
	if l.Leave("d", mark("pod/d.scope"), true) {
		t.Error("old kills were blamed on d")
	}
	p.count("pod/e.scope", 2)
	p.count("pod", 9)
	l.Enter("e", p.file("pod/e.scope"))
	p.remove("pod/e.scope")
	if !l.Leave("e", mark("pod/e.scope"), true) {
		t.Error("kills before the monitor's start were lost")
	}
}

// TestLedgerUnseen has the cgroups of two go before anybody sees either end.
func TestLedgerUnseen(t *testing.T) {
	for name, test := range map[string]struct {
		kills  int
		killed bool // a; b was killed for want of memory in any case
	}{"the other ended by itself": {1, false}, "both were killed": {2, true}} {
		t.Run(name, func(t *testing.T) {
			p := pods{t, t.TempDir()}
			l := NewLedger()
			marks := map[string]OOMMark{}
			p.count("pod", 0)
			for _, id := range []string{"a", "b"} {
				p.count("pod/"+id, 0)
				marks[id] = OOMMark{File: p.file("pod/" + id)}
				l.Enter(id, marks[id].File)
			}
			p.count("pod", test.kills)
			p.remove("pod/a")
			p.remove("pod/b")
			if got := l.Leave("a", marks["a"], test.killed); got != test.killed {
				t.Errorf("a was killed for want of memory: %v, want %v", got, test.killed)
			}
			if !l.Leave("b", marks["b"], true) {
				t.Error("the kill of b was lost")
			}
		})
	}
}

// TestLedgerAtOnce has many leave at once: each takes no more than its kill.
func TestLedgerAtOnce(t *testing.T) {
	p := pods{t, t.TempDir()}
	l := NewLedger()
	p.count("pod", 0)
	const all, killed = 40, 15
	for i := range all {
		p.count(fmt.Sprint("pod/", i), 0)
		l.Enter(fmt.Sprint(i), p.file(fmt.Sprint("pod/", i)))
	}
	p.count("pod", killed)
	for i := range all {
		p.remove(fmt.Sprint("pod/", i))
	}
	var blamed atomic.Int64
	var left sync.WaitGroup
	for i := range all {
		left.Go(func() {
			if l.Leave(fmt.Sprint(i), OOMMark{File: p.file(fmt.Sprint("pod/", i))}, true) {
				blamed.Add(1)
			}
		})
	}
	left.Wait()
	if blamed.Load() != killed {
		t.Errorf("%d containers were blamed for %d kills", blamed.Load(), killed)
	}
}

func TestLedgerV1(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.oom_control")
	if err := os.WriteFile(file, []byte("oom_kill_disable 0\noom_kill 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := NewLedger()
	l.Enter("a", file)
	if l.Leave("a", OOMMark{File: file, Kills: 3}, true) || !l.Leave("a", OOMMark{File: file, Kills: 2}, true) || l.Leave("a", OOMMark{}, true) {
		t.Error("a count of v1 is misread")
	}
}
