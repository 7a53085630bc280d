package cgroup

import (
	"path/filepath"
	"strings"
	"sync"
)

// Ledger knows which containers the kernel's OOM kills were in. A container's own count goes with
// its cgroup, and systemd may remove that before anybody has seen the exit. On v2 the cgroup
// above has counted the kill, too, and outlives it: what none of the other containers there
// explains was in the one whose count is gone.
type Ledger struct {
	mu    sync.Mutex
	above map[string]*account // by the file of the count above
}

// account is of one cgroup with containers in it.
type account struct {
	// settled are the kills that are explained: those before the first container, and those
	// in containers that have ended.
	settled uint64
	files   map[string]string // the own counts of those that live, by id
	changes uint64            // counts who came and went
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{above: map[string]*account{}} }

// Enter notes a container that lives, by the file of its own count.
func (l *Ledger) Enter(id, file string) {
	above := countAbove(file)
	if above == "" {
		return
	}
	counted, own := oomKills(above), oomKills(file)
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.above[above]
	if a == nil {
		a = &account{settled: counted, files: map[string]string{}}
		l.above[above] = a
	}
	if _, again := a.files[id]; !again {
		a.settled -= min(a.settled, own)
	}
	a.files[id] = file
	a.changes++
}

// Leave reports whether a container that has ended had OOM kills since the mark; sigkilled is
// that its end looks like one. Where the counts of several are gone before their ends are seen,
// each that was killed has one of the kills that nothing else explains: of two killed at once,
// one for want of memory, it may be the wrong one.
func (l *Ledger) Leave(id string, mark OOMMark, sigkilled bool) bool {
	own, there := readKills(mark.File)
	above := countAbove(mark.File)
	if above == "" {
		return own > mark.Kills
	}
	if there {
		l.settle(above, id, func(uint64, int) uint64 { return own })
		return own > mark.Kills
	}
	kills := l.settle(above, id, func(explained uint64, unseen int) uint64 {
		counted := oomKills(above)
		left := counted - min(counted, explained)
		switch {
		case unseen == 0:
			return left
		case sigkilled:
			return min(left, 1)
		}
		return 0
	})
	return kills > 0
}

// Forget takes a container out that will not be followed.
func (l *Ledger) Forget(id, file string) {
	l.settle(countAbove(file), id, func(uint64, int) uint64 { return 0 })
}

// settle takes a container out, and adds its kills to those that are explained. The function
// kills gets what is explained without it, and how many others' counts are gone, too. Files are
// read without the lock, and again if another container came or went meanwhile.
func (l *Ledger) settle(above, id string, kills func(explained uint64, unseen int) uint64) uint64 {
	for {
		seen, others := l.look(above, id)
		explained, unseen := seen.settled, 0
		for _, file := range others {
			own, there := readKills(file)
			explained += own
			if !there {
				unseen++
			}
		}
		of := kills(explained, unseen)
		if l.leave(above, id, seen.changes, of) {
			return of
		}
	}
}

// look returns an account as it is, and the files of the containers in it but one.
func (l *Ledger) look(above, id string) (seen account, others []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.above[above]
	if a == nil {
		return account{}, nil
	}
	for other, file := range a.files {
		if other != id {
			others = append(others, file)
		}
	}
	return *a, others
}

// leave takes a container with its kills out of an account, unless that has changed.
func (l *Ledger) leave(above, id string, changes, kills uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.above[above]
	if a == nil {
		return true
	}
	if a.changes != changes {
		return false
	}
	a.changes++
	a.settled += kills
	delete(a.files, id)
	if len(a.files) == 0 {
		delete(l.above, above)
	}
	return true
}

// countAbove returns the count of the cgroup around a container's; empty on v1, whose counts do
// not have what is below. crun puts a container into a cgroup of its own in systemd's scope,
// which goes with it.
func countAbove(file string) string {
	if filepath.Base(file) != eventsV2 {
		return ""
	}
	dir := filepath.Dir(file)
	if filepath.Base(dir) == "container" && strings.HasSuffix(filepath.Dir(dir), ".scope") {
		dir = filepath.Dir(dir)
	}
	return filepath.Join(filepath.Dir(dir), eventsV2)
}
