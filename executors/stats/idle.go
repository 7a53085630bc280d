package stats

import (
	"sync"
	"time"
)

const (
	// maxIdle is how long the figures of a pod's containers may be used again: a bound on
	// what would be wrong if a kernel did not count in a pod what it counts in a container.
	maxIdle = time.Minute
	// settling is after how long all that tasks have waited is in the averages: the kernel
	// computes them every two seconds.
	settling = 4 * time.Second
)

// idle remembers what pods and their containers used when they were read last. A pod's
// cgroup counts what those below it do. If its figures are exactly what they were, CPU time
// among them, nothing has run in the pod, and its containers' figures are what they were,
// too. They are used again, but for the limits, which are others' to change, and the
// averages of what was waited, which change with time. Reading the rest, and counting the
// processes, would be half of what the pod costs, and many pods of a node are idle.
type idle struct {
	mu    sync.Mutex
	last  map[string]*lastRead // by the pods' cgroups
	swept time.Time
}

// lastRead is what a pod used, and then what its containers did. It never changes.
type lastRead struct {
	// since is when all of it was read. The pod has been idle since then.
	since time.Time
	// settled says that the averages were read when they were settled: a zero stays one.
	settled    bool
	pod        figures
	containers []memberRead
	processes  number
}

type memberRead struct {
	cgroup string
	figures
}

func (l *lastRead) read() time.Time { return l.since }

// of returns what a container used.
func (l *lastRead) of(cgroup string) (figures, bool) {
	if l != nil {
		for i := range l.containers {
			if l.containers[i].cgroup == cgroup {
				return l.containers[i].figures, true
			}
		}
	}
	return figures{}, false
}

// unchanged returns what was read of a pod last if the pod has been idle since then, or nil.
func (i *idle) unchanged(cgroup string, now time.Time, pod *figures) *lastRead {
	i.mu.Lock()
	last := i.last[cgroup]
	i.mu.Unlock()
	if last == nil || !pod.cpu.known || now.Sub(last.since) > maxIdle || last.pod.lasting() != pod.lasting() {
		return nil
	}
	return last
}

// keep remembers what was read of a pod.
func (i *idle) keep(cgroup string, now time.Time, read *lastRead) {
	i.mu.Lock()
	defer i.mu.Unlock()
	forget(i.last, &i.swept, now, maxIdle)
	i.last[cgroup] = read
}
