package bench

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/peers"
)

// tools are what CNI plugins, and others, execute by name.
var tools = []string{
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
	"nft", "conntrack", "modprobe", "sysctl", "ip", "mount", "umount", "fuse-overlayfs", "apparmor_parser", "systemctl",
}

// BenchmarkSteps prints where each millisecond and each execution of a program goes, for the calls
// of a pod's life, one at a time: a call's time and CPU time, the steps of it as the daemon's events
// have them, and the programs that it executes. An iteration is a life on each of two daemons.
// Times are of one that is left alone. The other one's programs are executed by command traced, which
// has a time of its own: their figures are without that, but those of a program that executes others
// are less exact. A runtime does not wait for what becomes the container's first process.
func BenchmarkSteps(b *testing.B) {
	dir := b.TempDir()
	programs, err := e2e.BuildPrograms(dir, false)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range settings {
		b.Run(s.name, func(b *testing.B) {
			watched, log := watchPrograms(b, dir)
			plain := newStepper(b, programs, s)
			plain.execs = watchExecs(b, append(plain.h.MonitorPIDs(), plain.h.Daemon.PID())...)
			var traced *stepper
			withPath(b, watched.PluginDir, func() { traced = newStepper(b, watched, s) })
			for _, one := range []*stepper{plain, traced} {
				if err := one.live(b); err != nil { // the first one warms caches
					b.Fatal(err)
				}
				one.calls = nil
			}
			for b.Loop() {
				for _, one := range []*stepper{plain, traced} {
					if err := one.live(b); err != nil {
						b.Fatal(err)
					}
				}
			}
			plain.findSteps(b)
			plain.findPrograms()
			traced.findExecutions(b, log)
			fmt.Fprintf(os.Stdout, "\n%s; medians of %d lives, and of CPU times means\n%s\n", s, b.N, breakdown(plain.calls, traced.calls))
		})
	}
}

// watchPrograms puts the program that watches in the place of the runtime, of the CNI plugins and of
// all tools: the programs are those of dir, but what they execute is in their PluginDir.
func watchPrograms(b *testing.B, dir string) (programs *e2e.Programs, log string) {
	b.Helper()
	programs, err := e2e.FoundPrograms(dir)
	if err != nil {
		b.Fatal(err)
	}
	place := b.TempDir()
	watching, bin, reals := filepath.Join(place, "traced"), filepath.Join(place, "bin"), filepath.Join(place, "real")
	build := exec.Command("go", "build", "-o", watching, "github.com/stele-runtime/stele/test/bench/traced")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	log = filepath.Join(place, "log")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Mkdir(reals, 0o755), os.WriteFile(log, nil, 0o600)); err != nil {
		b.Fatal(err)
	}
	found := []string{programs.Runc}
	for _, name := range tools {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	for _, dir := range programs.PluginDirs {
		plugins, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			b.Fatal(err)
		}
		found = append(found, plugins...)
	}
	for _, path := range found {
		name := filepath.Base(path)
		err := os.Link(watching, filepath.Join(bin, name))
		if errors.Is(err, fs.ErrExist) {
			continue // another one of that name comes first
		}
		if err := errors.Join(err, os.Symlink(path, filepath.Join(reals, name))); err != nil {
			b.Fatal(err)
		}
	}
	programs.Runc, programs.PluginDir, programs.PluginDirs = filepath.Join(bin, "runc"), bin, []string{bin}
	return programs, log
}

// withPath does something with a directory before all others in PATH.
func withPath(b *testing.B, dir string, do func()) {
	b.Helper()
	before := os.Getenv("PATH")
	if err := os.Setenv("PATH", dir+":"+before); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := os.Setenv("PATH", before); err != nil {
			b.Error(err)
		}
	}()
	do()
}

// stepper takes pods through their lives and remembers each call.
type stepper struct {
	h       *e2e.Harness
	account *account
	setting setting
	calls   []*call
	// execs may be nil.
	execs *execs
}

// call is one of the CRI's.
type call struct {
	name         string
	began, ended time.Time
	// all is the CPU time of everything, daemon and monitor what these had of it.
	all, daemon, monitor time.Duration
	// streams are those of its pod and its container.
	streams    []string
	steps      []stepTaken
	executions []Execution
	// programs are all that were executed, by name, as the kernel has them.
	programs []string
}

// stepTaken ends with an event.
type stepTaken struct {
	until string
	took  time.Duration
}

func newStepper(b *testing.B, programs *e2e.Programs, s setting) *stepper {
	b.Helper()
	states, a := stateIn(b, s.tmpfs), openAccount(b)
	h := e2e.New(b, programs, e2e.Options{StateIn: states})
	h.CgroupParent, h.Scope.Cgroups = a.pods, []string{a.pods}
	replaceNetwork(b, h, peers.Network(h.Bridge, h.Scope.IPAM[0], fmt.Sprintf("10.%d.0.0/20", 100+h.Number%100)))
	a.add(b, append(h.MonitorPIDs(), h.Daemon.PID())...)
	return &stepper{h: h, account: a, setting: s}
}

// live takes a pod through its life.
func (s *stepper) live(b *testing.B) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pod, c := s.setting.configs(s.h)
	one := life{h: s.h, config: pod, container: c}
	if err := one.makeLogDir(); err != nil {
		return err
	}
	monitor := s.h.MonitorPIDs()[0]
	first := len(s.calls)
	for _, step := range slices.Concat(one.start(ctx), one.ask(ctx)[:1], one.remove(ctx)) {
		// What an earlier call owes is that call's.
		s.account.settle(b)
		if n := len(s.calls); n > first {
			s.calls[n-1].count(s.now(b, monitor))
		}
		made := &call{name: step.name}
		made.all, made.daemon, made.monitor = s.now(b, monitor)
		made.began = time.Now()
		if err := step.call(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		made.ended = time.Now()
		s.calls = append(s.calls, made)
	}
	s.account.settle(b)
	s.calls[len(s.calls)-1].count(s.now(b, monitor))
	for _, made := range s.calls[first:] {
		made.streams = []string{"sandbox/" + one.pod, "container/" + one.id}
	}
	return nil
}

// now is the CPU time that everything, the daemon and the monitor have had.
func (s *stepper) now(b *testing.B, monitorPID int) (all, daemon, monitor time.Duration) {
	return s.account.spent(b), ranFor(b, s.h.Daemon.PID()), ranFor(b, monitorPID)
}

// count has the times after the call, where those from before it were.
func (c *call) count(all, daemon, monitor time.Duration) {
	c.all, c.daemon, c.monitor = all-c.all, daemon-c.daemon, monitor-c.monitor
}

// findSteps splits the calls by the events of their pods and containers.
func (s *stepper) findSteps(b *testing.B) {
	b.Helper()
	type record struct {
		Time         time.Time
		Stream, Type string
	}
	byStream := map[string][]record{}
	lines := bufio.NewScanner(strings.NewReader(s.h.Stele("events", "-o", "json")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			b.Fatalf("stele events: %v: %s", err, lines.Text())
		}
		byStream[r.Stream] = append(byStream[r.Stream], r)
	}
	for _, c := range s.calls {
		var during []record
		for _, stream := range c.streams {
			for _, r := range byStream[stream] {
				if !r.Time.Before(c.began) && !r.Time.After(c.ended) {
					during = append(during, r)
				}
			}
		}
		slices.SortStableFunc(during, func(x, y record) int { return x.Time.Compare(y.Time) })
		last := c.began
		for _, r := range during {
			c.steps = append(c.steps, stepTaken{"until " + strings.TrimRight(r.Type, "v.0123456789"), r.Time.Sub(last)})
			last = r.Time
		}
		c.steps = append(c.steps, stepTaken{"until the answer", c.ended.Sub(last)})
	}
}

// findExecutions gives each call the programs that were executed from its beginning until the next
// one's.
func (s *stepper) findExecutions(b *testing.B, log string) {
	b.Helper()
	content, err := os.ReadFile(log)
	if err != nil {
		b.Fatal(err)
	}
	var all []Execution
	for line := range strings.Lines(string(content)) {
		var e Execution
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.Fatalf("%v: %s", err, line)
		}
		all = append(all, e)
	}
	for _, e := range apart(all) {
		i, _ := slices.BinarySearchFunc(s.calls, e.Began, func(c *call, at time.Time) int {
			return cmp.Compare(c.began.UnixNano(), at.UnixNano()+1)
		})
		// What was before the first call is the daemon's start.
		if i > 0 {
			s.calls[i-1].executions = append(s.calls[i-1].executions, e)
		}
	}
}

// findPrograms gives each call what was executed from its beginning until the next one's.
func (s *stepper) findPrograms() {
	for i, c := range s.calls {
		end := time.Now()
		if i+1 < len(s.calls) {
			end = s.calls[i+1].began
		}
		if s.execs != nil {
			c.programs = s.execs.between(c.began, end)
		}
	}
}

// breakdown is the table: times by the first calls, executions by the second ones.
func breakdown(plain, traced []*call) string {
	var out strings.Builder
	row := func(name, count, wall, cpu string) { fmt.Fprintf(&out, "%-46s%8s%10s%10s\n", name, count, wall, cpu) }
	row("", "count", "ms", "CPU ms")
	var life, cpu time.Duration
	for _, c := range plain {
		life, cpu = life+c.ended.Sub(c.began), cpu+c.all
	}
	lives := len(plain) / len(names(plain))
	row("a whole life, mean", "", digits(milliseconds(life)/float64(lives)), digits(milliseconds(cpu)/float64(lives)))
	executions(row, "  executes ", traced, lives)
	counts(&out, plain, lives)
	for _, name := range names(plain) {
		these, watched := ofName(plain, name), ofName(traced, name)
		mean := func(of func(*call) time.Duration) string {
			var sum time.Duration
			for _, c := range these {
				sum += of(c)
			}
			return digits(milliseconds(sum) / float64(len(these)))
		}
		var took []time.Duration
		steps, order := map[string][]time.Duration{}, []string{}
		for _, c := range these {
			took = append(took, c.ended.Sub(c.began))
			for _, s := range c.steps {
				if _, known := steps[s.until]; !known {
					order = append(order, s.until)
				}
				steps[s.until] = append(steps[s.until], s.took)
			}
		}
		row(name, "", digits(milliseconds(median(took))), mean(func(c *call) time.Duration { return c.all }))
		row("  daemon", "", "", mean(func(c *call) time.Duration { return c.daemon }))
		row("  monitor", "", "", mean(func(c *call) time.Duration { return c.monitor }))
		row("  programs and pods", "", "", mean(func(c *call) time.Duration { return c.all - c.daemon - c.monitor }))
		below := executed(watched)
		row("    of which below", "", "", digits(milliseconds(below)))
		for _, until := range order {
			row("  "+until, "", digits(milliseconds(median(steps[until]))), "")
		}
		executions(row, "  executes ", watched, len(watched))
		counts(&out, these, len(these))
	}
	return out.String()
}

// executions writes a row for each program: how often it is executed in one of so many, and each
// execution's time and CPU time.
func executions(row func(name, count, wall, cpu string), prefix string, calls []*call, of int) {
	byProgram := map[string][]Execution{}
	for _, c := range calls {
		for _, e := range c.executions {
			byProgram[e.Program()] = append(byProgram[e.Program()], e)
		}
	}
	for _, program := range slices.Sorted(maps.Keys(byProgram)) {
		var took []time.Duration
		var cpu time.Duration
		for _, e := range byProgram[program] {
			took, cpu = append(took, e.Took), cpu+e.CPU
		}
		row(prefix+program, digits(float64(len(took))/float64(of)), digits(milliseconds(median(took))), digits(milliseconds(cpu)/float64(len(took))))
	}
}

// counts writes a line with how often each program is executed in one of so many, as the kernel
// counts it.
func counts(out *strings.Builder, calls []*call, of int) {
	byProgram, all := map[string]int{}, 0
	for _, c := range calls {
		for _, program := range c.programs {
			byProgram[program]++
			all++
		}
	}
	if all == 0 {
		return
	}
	fmt.Fprintf(out, "  %.1f by the kernel's count:", float64(all)/float64(of))
	for _, program := range slices.Sorted(maps.Keys(byProgram)) {
		fmt.Fprintf(out, " %s %.1f;", program, float64(byProgram[program])/float64(of))
	}
	out.WriteString("\n")
}

// executed is the mean CPU time of what the calls executed. First processes of containers are not in it: the
// runtime does not wait for them.
func executed(calls []*call) (mean time.Duration) {
	for _, c := range calls {
		for _, e := range c.executions {
			mean += e.CPU
		}
	}
	return mean / time.Duration(max(1, len(calls)))
}

func digits(v float64) string { return fmt.Sprintf("%.2f", v) }

// names are those of the calls, in their order.
func names(calls []*call) (all []string) {
	for _, c := range calls {
		if !slices.Contains(all, c.name) {
			all = append(all, c.name)
		}
	}
	return all
}

func ofName(calls []*call, name string) (these []*call) {
	for _, c := range calls {
		if c.name == name {
			these = append(these, c)
		}
	}
	return these
}
