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
}

// Leave reports whether a container that has ended had OOM kills since the mark.
func (l *Ledger) Leave(id string, mark OOMMark) bool {
	own, there := readKills(mark.File)
	above := countAbove(mark.File)
	if above == "" {
		return own > mark.Kills
	}
	if there {
		l.settle(above, id, func(*account, map[string]uint64) uint64 { return own })
		return own > mark.Kills
	}
	kills := l.settle(above, id, func(a *account, others map[string]uint64) uint64 {
		counted, explained := oomKills(above), a.settled
		for _, kills := range others {
			explained += kills
		}
		return counted - min(counted, explained)
	})
	return kills > 0
}

// Forget takes a container out that will not be followed.
func (l *Ledger) Forget(id, file string) {
	l.settle(countAbove(file), id, func(*account, map[string]uint64) uint64 { return 0 })
}

// settle takes a container out, and adds its kills to those that are explained. It reads the
// counts of the others first, without the lock.
func (l *Ledger) settle(above, id string, kills func(*account, map[string]uint64) uint64) uint64 {
	files := map[string]string{}
	l.mu.Lock()
	a := l.above[above]
	if a != nil {
		for other, file := range a.files {
			if other != id {
				files[other] = file
			}
		}
	} else {
		a = &account{}
	}
	seen := *a
	l.mu.Unlock()
	others := map[string]uint64{}
	for other, file := range files {
		others[other] = oomKills(file)
	}
	of := kills(&seen, others)
	l.mu.Lock()
	defer l.mu.Unlock()
	a.settled += of
	delete(a.files, id)
	if len(a.files) == 0 {
		delete(l.above, above)
	}
	return of
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
