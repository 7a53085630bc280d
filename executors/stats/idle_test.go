package stats

import (
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// idlePod is a pod of two containers, a and b, on a node of the second version.
type idlePod struct {
	*Reader
	t    *testing.T
	root string
	pod  Pod
}

func newIdlePod(t *testing.T) *idlePod {
	p := &idlePod{t: t, root: t.TempDir(), pod: Pod{Cgroup: "/pod", Containers: []Container{{ID: "a", Cgroup: "/pod/a"}, {ID: "b", Cgroup: "/pod/b"}}}}
	for _, cgroup := range []string{"pod", "pod/a", "pod/b"} {
		p.write(cgroup, map[string]string{
			"cpu.stat": "usage_usec 1000\n", "memory.current": "4096\n", "memory.stat": "anon 4096\n", "memory.max": "max\n",
			"memory.swap.current": "0\n", "memory.swap.max": "max\n", "cgroup.procs": "7\n",
			"cpu.pressure": quietFile, "memory.pressure": quietFile, "io.pressure": quietFile,
		})
	}
	p.Reader = onV2(p.root, false)
	return p
}

const quietFile = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"

func (p *idlePod) write(cgroup string, contents map[string]string) {
	p.t.Helper()
	files(p.t, filepath.Join(p.root, cgroup), contents)
}

func (p *idlePod) stats() *runtimeapi.LinuxPodSandboxStats {
	p.t.Helper()
	all, err := p.Pods(p.t.Context(), []Pod{p.pod})
	if err != nil {
		p.t.Fatal(err)
	}
	return all[0]
}

// reads reports whether the second container is read again: its files say what no kernel's
// do, that it has used memory while nothing of its pod has.
func (p *idlePod) reads() bool {
	p.t.Helper()
	second := p.pod.Containers[1].Cgroup
	p.write(second, map[string]string{"memory.current": "999\n"})
	usage := p.stats().GetContainers()[1].GetMemory().GetUsageBytes().GetValue()
	p.write(second, map[string]string{"memory.current": "4096\n"})
	return usage == 999
}

func TestContainersOfAnIdlePodAreNotReadAgain(t *testing.T) {
	p := newIdlePod(t)
	first := p.stats()
	if p.reads() {
		t.Fatal("a container was read again though nothing of its pod has changed")
	}
	again := p.stats()
	if cpu := again.GetContainers()[0].GetCpu(); cpu.GetTimestamp() <= first.GetContainers()[0].GetCpu().GetTimestamp() {
		t.Errorf("the second reading is of %d, the first of %d", cpu.GetTimestamp(), first.GetContainers()[0].GetCpu().GetTimestamp())
	}
	if !equalFigures(again, first) {
		t.Errorf("got  %s\nwant %s", protojson.Format(again), protojson.Format(first))
	}
}

// equalFigures compares stats without their times.
func equalFigures(a, b *runtimeapi.LinuxPodSandboxStats) bool {
	return proto.Equal(timeless(a), timeless(b))
}

func timeless(s *runtimeapi.LinuxPodSandboxStats) *runtimeapi.LinuxPodSandboxStats {
	s = proto.CloneOf(s)
	s.Cpu.Timestamp, s.Memory.Timestamp, s.Process.Timestamp = 0, 0, 0
	if s.Io != nil {
		s.Io.Timestamp = 0
	}
	for _, c := range s.GetContainers() {
		c.Cpu.Timestamp, c.Memory.Timestamp = 0, 0
		if c.Swap != nil {
			c.Swap.Timestamp = 0
		}
		if c.Io != nil {
			c.Io.Timestamp = 0
		}
	}
	return s
}

func TestContainersAreReadAgain(t *testing.T) {
	for what, change := range map[string]func(*idlePod){
		"the pod used a CPU":    func(p *idlePod) { p.write("pod", map[string]string{"cpu.stat": "usage_usec 1001\n"}) },
		"the pod used memory":   func(p *idlePod) { p.write("pod", map[string]string{"memory.current": "8192\n"}) },
		"the pod's pages moved": func(p *idlePod) { p.write("pod", map[string]string{"memory.stat": "anon 4096\ninactive_file 4096\n"}) },
		"the pod waited": func(p *idlePod) {
			p.write("pod", map[string]string{"cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=6\n"})
		},
		"the reading is old": func(p *idlePod) {
			p.age(maxIdle)
		},
		"the pod has no figure of its CPUs": func(p *idlePod) {
			p.write("pod", map[string]string{"cpu.stat": "\n"})
			p.stats()
		},
		"another container": func(p *idlePod) {
			p.write("pod/c", map[string]string{"cpu.stat": "usage_usec 1000\n", "memory.current": "4096\n"})
			p.pod.Containers = []Container{{ID: "a", Cgroup: "/pod/a"}, {ID: "c", Cgroup: "/pod/c"}}
		},
		"a container elsewhere": func(p *idlePod) {
			p.write("pod", map[string]string{"cpu.stat": "usage_usec 1001\n"})
			p.write("elsewhere", map[string]string{"cpu.stat": "usage_usec 1000\n", "memory.current": "4096\n"})
			p.pod.Containers[1].Cgroup = "/elsewhere"
			p.stats()
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newIdlePod(t)
			p.stats()
			change(p)
			if !p.reads() {
				t.Error("a container was not read again")
			}
		})
	}
}

// age makes what was read older.
func (p *idlePod) age(by time.Duration) {
	for _, last := range p.idle.last {
		last.since = last.since.Add(-by)
	}
}

// The averages of what was waited change though nothing runs any more.
func TestAveragesOfAnIdlePod(t *testing.T) {
	p := newIdlePod(t)
	wait := func(cgroup, average string) {
		p.write(cgroup, map[string]string{"io.pressure": "some avg10=" + average + " avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n"})
	}
	check := func(average string, want float64) {
		t.Helper()
		wait("pod/b", average)
		if got := p.stats().GetContainers()[1].GetIo().GetPsi().GetSome().GetAvg10(); got != want {
			t.Errorf("the average of %s is told as %v, want %v", average, got, want)
		}
	}
	p.stats()
	wait("pod", "1.50")
	if p.reads() {
		t.Error("the whole container was read again for an average of the pod")
	}
	check("1.50", 1.5)
	check("0.00", 0)
	check("0.75", 0.75) // of what was waited just before the first reading
	p.age(settling)
	check("0.01", 0.01)
	check("0.00", 0)
	check("9.00", 0) // no kernel's: it was zero when all was in it
}

// What is gone is forgotten.
func TestIdleIsBounded(t *testing.T) {
	p := newIdlePod(t)
	for _, cgroup := range []string{"/x", "/y"} {
		p.idle.keep(cgroup, time.Time{}, &lastRead{pod: figures{cpu: known(1)}})
	}
	p.stats()
	if len(p.idle.last) != 1 || p.idle.last["/pod"] == nil {
		t.Errorf("kept: %v", p.idle.last)
	}
}
