package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/test/e2e"
	"github.com/stele-runtime/stele/test/images"
)

const (
	// lineLength is that of each line, with its newline.
	lineLength = 100
	// blockLines are in the file that a container has, blocks is how often it writes
	// that: 64 MB. A file is cheaper to write from than any generator, so that the
	// container isn't what is measured.
	blockLines, blocks = 80_000, 8
	logLines           = blockLines * blocks
	logMegabytes       = float64(logLines) * lineLength / 1e6

	// patience is how long one container may take.
	patience = time.Minute
)

// BenchmarkLogs takes the output of a container into its log in the CRI's format,
// with the monitor and with conmon. An iteration is a container: its clock runs
// from before `runc start` until its end is known and its log is whole.
//
// The processor time is that of the process that writes the log, from before `runc
// start` until then, without its children (utime and stime in proc_pid_stat(5)): the
// monitor, which serves all containers, or the container's own conmon, which ends
// with it, so that its ending counts, too, but not its start. What the kernel does
// for the container's own writes to the pipe is in neither. Neither syncs the log to
// the disk, which conmon is told with --no-sync-log.
func BenchmarkLogs(b *testing.B) {
	programs, err := e2e.BuildPrograms(b.TempDir(), false)
	if err != nil {
		b.Fatal(err)
	}
	conmon, err := exec.LookPath("conmon")
	if err != nil {
		b.Fatalf("`test/deps/install.sh bench` installs conmon: %v", err)
	}
	var columns []string
	var measured []logFigures
	for _, contender := range []struct {
		name  string
		start func(*testing.B, *boxes) logger
	}{
		{"stele-monitor", func(b *testing.B, all *boxes) logger { return startMonitor(b, all, programs.Monitor) }},
		{"conmon", func(_ *testing.B, all *boxes) logger { return &conmonLogger{program: conmon, boxes: all} }},
	} {
		b.Run(contender.name, func(b *testing.B) {
			figures := benchmarkLogger(b, programs.Runc, contender.start)
			columns, measured = append(columns, contender.name), append(measured, figures)
		})
	}
	if len(columns) > 0 {
		fmt.Fprint(os.Stdout, "\n"+logTable(columns, measured)+"\n")
	}
}

// logger is who runs a container's `create` and writes its log.
type logger interface {
	// create creates a container, which has not been started.
	create(ctx context.Context, c box) error
	// await returns when the container has ended and its log is whole, and how much
	// processor time that took since create.
	await(ctx context.Context, c box) (cpu time.Duration, err error)
	// forget follows the container's deletion.
	forget(ctx context.Context, c box) error
}

func benchmarkLogger(b *testing.B, runc string, start func(*testing.B, *boxes) logger) logFigures {
	all := newBoxes(b, runc)
	l := start(b, all)
	var took []time.Duration
	var cpu time.Duration
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		ctx, cancel := context.WithTimeout(b.Context(), patience)
		c := all.next(b)
		if err := l.create(ctx, c); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		begun := time.Now()
		all.start(ctx, b, c.id)
		used, err := l.await(ctx, c)
		took = append(took, time.Since(begun))
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		cpu += used
		c.check(b)
		all.delete(b, c.id)
		if err := l.forget(ctx, c); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(c.dir); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.StartTimer()
	}
	b.StopTimer()
	middle := median(took).Seconds()
	figures := logFigures{
		megabytes: logMegabytes / middle,
		lines:     logLines / middle,
		cpu:       milliseconds(cpu) / float64(len(took)) / logMegabytes,
	}
	b.ReportMetric(figures.megabytes, "MB/s")
	b.ReportMetric(figures.lines, "lines/s")
	b.ReportMetric(figures.cpu, "cpu-ms/MB")
	return figures
}

// logFigures are a logger's: megabytes and lines per second in the middle, and
// milliseconds of processor time per megabyte, all of what the container wrote.
type logFigures struct{ megabytes, lines, cpu float64 }

// logTable sets loggers side by side.
func logTable(columns []string, measured []logFigures) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-24s", fmt.Sprintf("lines of %d bytes", lineLength))
	for _, column := range columns {
		fmt.Fprintf(&out, "%14s", column)
	}
	for _, row := range []struct {
		name, format string
		value        func(logFigures) float64
	}{
		{"MB/s", "%14.1f", func(f logFigures) float64 { return f.megabytes }},
		{"lines/s", "%14.0f", func(f logFigures) float64 { return f.lines }},
		{"processor, ms/MB", "%14.2f", func(f logFigures) float64 { return f.cpu }},
	} {
		fmt.Fprintf(&out, "\n%-24s", row.name)
		for _, figures := range measured {
			fmt.Fprintf(&out, row.format, row.value(figures))
		}
	}
	out.WriteString("\n")
	return out.String()
}

// monitorLogger is the product's.
type monitorLogger struct {
	client *monitor.Client
	boxes  *boxes
	pid    int
	// before is the monitor's processor time when the container was created.
	before time.Duration
	// seq is the last exit that was seen.
	seq uint64
}

func startMonitor(b *testing.B, all *boxes, program string) *monitorLogger {
	b.Helper()
	l := &monitorLogger{boxes: all}
	var said bytes.Buffer
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	client, err := monitor.Start(ctx, monitor.Config{
		Binary: program, StateDir: filepath.Join(all.dir, "state"), Build: "bench",
		Logger:    slog.New(slog.NewTextHandler(&said, nil)),
		OnStarted: func(pid int, _ string) { l.pid = pid },
	})
	if err != nil {
		b.Fatal(err)
	}
	l.client = client
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		// What a failure left: the monitor doesn't end while containers run.
		for _, id := range slices.Collect(maps.Keys(all.made)) {
			all.delete(b, id)
			if err := client.Forget(ctx, id); err != nil {
				b.Errorf("forget %s: %v", id, err)
			}
		}
		if err := client.Shutdown(ctx); err != nil {
			b.Errorf("shut the monitor down: %v", err)
		}
		if err := client.Close(); err != nil {
			b.Error(err)
		}
		if b.Failed() {
			b.Logf("the monitor's client said:\n%s", said.String())
		}
	})
	return l
}

func (l *monitorLogger) create(ctx context.Context, c box) error {
	_, err := l.client.Create(ctx, monitor.CreateRequest{
		ContainerID: c.id, Runtime: l.boxes.runc, Args: l.boxes.args("create", "--bundle", c.dir, "--pid-file", c.pidFile, c.id),
		PidFile: c.pidFile, Bundle: c.dir, LogPath: c.log, Deadline: patience,
	})
	if err != nil {
		return err
	}
	l.before, err = processorTime(l.pid)
	return err
}

// await relies on the monitor's word: who sees the exit finds the whole log.
func (l *monitorLogger) await(ctx context.Context, c box) (time.Duration, error) {
	for exit := range l.client.Exits(ctx, l.seq) {
		l.seq = exit.Seq
		if exit.ContainerID != c.id {
			continue
		}
		if exit.Code != 0 || exit.Unknown != "" {
			return 0, fmt.Errorf("container %s ended with %d %s", c.id, exit.Code, exit.Unknown)
		}
		after, err := processorTime(l.pid)
		return after - l.before, err
	}
	return 0, fmt.Errorf("wait for the end of container %s: %w", c.id, ctx.Err())
}

func (l *monitorLogger) forget(ctx context.Context, c box) error {
	return errors.Join(l.client.Ack(ctx, l.seq), l.client.Forget(ctx, c.id))
}

// conmonLogger runs a conmon for each container.
type conmonLogger struct {
	program string
	boxes   *boxes
	conmon  *exec.Cmd
	// before is conmon's processor time when the container was created.
	before time.Duration
}

// create runs conmon with --sync, with which it stays this process's child.
func (l *conmonLogger) create(ctx context.Context, c box) error {
	said, err := os.Create(c.said())
	if err != nil {
		return err
	}
	defer said.Close()
	created, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer created.Close()
	l.conmon = exec.CommandContext(ctx, l.program, "--sync", "--no-sync-log", "--full-attach",
		"-c", c.id, "-u", c.id, "-n", c.id, "-r", l.boxes.runc, "--runtime-arg", "--root="+l.boxes.root(),
		"-b", c.dir, "-p", c.pidFile, "--exit-dir", c.dir, "--persist-dir", c.dir, "-l", "k8s-file:"+c.log)
	l.conmon.Stderr = said
	// Conmon writes a line there once the container is created.
	l.conmon.ExtraFiles = []*os.File{tell}
	l.conmon.Env = append(os.Environ(), "_OCI_SYNCPIPE=3")
	err = l.conmon.Start()
	tell.Close()
	if err != nil {
		return err
	}
	var answer struct {
		Pid     int
		Message string
	}
	err = json.NewDecoder(created).Decode(&answer)
	if err == nil && answer.Pid <= 0 {
		err = errors.New(answer.Message)
	}
	if err != nil {
		l.conmon.Process.Kill()
		l.conmon.Wait()
		words, _ := os.ReadFile(c.said())
		return fmt.Errorf("conmon did not create container %s: %w: %s", c.id, err, words)
	}
	l.before, err = processorTime(l.conmon.Process.Pid)
	return err
}

// await waits for conmon's end, which comes once the log is written and is how
// whoever started it learns of the container's.
func (l *conmonLogger) await(_ context.Context, c box) (time.Duration, error) {
	pid := l.conmon.Process.Pid
	// What a process took can be read until it is waited for.
	var err error
	for {
		if err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("wait for conmon: %w", err)
	}
	after, err := processorTime(pid)
	if waitErr := l.conmon.Wait(); waitErr != nil {
		return 0, fmt.Errorf("conmon of container %s: %w", c.id, waitErr)
	}
	if err != nil {
		return 0, err
	}
	code, err := os.ReadFile(filepath.Join(c.dir, c.id))
	if err != nil {
		return 0, fmt.Errorf("conmon tells of no exit: %w", err)
	}
	if string(code) != "0" {
		return 0, fmt.Errorf("container %s ended with %s", c.id, code)
	}
	return after - l.before, nil
}

func (l *conmonLogger) forget(context.Context, box) error { return nil }

// boxes are the containers of one contender.
type boxes struct {
	dir, runc, rootfs string
	// made are those that are not deleted.
	made map[string]bool
	last int
}

// box is a container: its id, its bundle, and what is in that.
type box struct{ id, dir, pidFile, log string }

// said is where conmon's complaints go.
func (c box) said() string { return filepath.Join(c.dir, "conmon.err") }

// newBoxes makes the root file system that all containers have.
func newBoxes(b *testing.B, runc string) *boxes {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Fatal("containers need root")
	}
	// Short, since a socket's path is.
	dir, err := os.MkdirTemp("", "logs")
	if err != nil {
		b.Fatal(err)
	}
	all := &boxes{dir: dir, runc: runc, rootfs: filepath.Join(dir, "rootfs"), made: map[string]bool{}}
	b.Cleanup(func() { all.clear(b) })
	for _, place := range []string{"proc", "dev", "bin"} {
		if err := os.MkdirAll(filepath.Join(all.rootfs, place), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	files := images.BusyboxFiles(b)
	program := slices.IndexFunc(files, func(f images.File) bool { return f.Path == "bin/busybox" })
	if program < 0 {
		b.Fatal("no bin/busybox among busybox's files")
	}
	block := bytes.Repeat([]byte(strings.Repeat("x", lineLength-1)+"\n"), blockLines)
	for name, content := range map[string][]byte{"bin/busybox": files[program].Content, "lines": block} {
		if err := os.WriteFile(filepath.Join(all.rootfs, name), content, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	return all
}

func (all *boxes) root() string   { return filepath.Join(all.dir, "runc") }
func (all *boxes) cgroup() string { return "/stele-bench-" + filepath.Base(all.dir) }

func (all *boxes) args(command ...string) []string {
	return append([]string{"--root", all.root()}, command...)
}

func (all *boxes) start(ctx context.Context, b *testing.B, id string) {
	b.Helper()
	if out, err := exec.CommandContext(ctx, all.runc, all.args("start", id)...).CombinedOutput(); err != nil {
		b.Fatalf("runc start %s: %v\n%s", id, err, out)
	}
}

// delete deletes a container by force; one that was never created is none.
func (all *boxes) delete(b *testing.B, id string) {
	b.Helper()
	if out, err := exec.Command(all.runc, all.args("delete", "--force", id)...).CombinedOutput(); err != nil {
		b.Errorf("runc delete %s: %v\n%s", id, err, out)
	}
	delete(all.made, id)
}

// next writes the bundle of a container that writes its lines and ends.
func (all *boxes) next(b *testing.B) box {
	b.Helper()
	all.last++
	id := fmt.Sprintf("%s-%d", filepath.Base(all.dir), all.last)
	dir := filepath.Join(all.dir, id)
	c := box{id, dir, filepath.Join(dir, "pid"), filepath.Join(dir, "0.log")}
	spec, err := json.Marshal(specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: append([]string{"/bin/busybox", "cat"}, slices.Repeat([]string{"/lines"}, blocks)...),
			Env:  []string{"PATH=/bin"}, Cwd: "/",
		},
		Root: &specs.Root{Path: all.rootfs, Readonly: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{
			CgroupsPath: all.cgroup() + "/" + id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}},
			Resources:   &specs.LinuxResources{},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), spec, 0o644); err != nil {
		b.Fatal(err)
	}
	all.made[id] = true
	return c
}

// check makes sure that the log has every line, whole or in pieces: conmon ends a
// record where what it read at once ends.
func (c box) check(b *testing.B) {
	b.Helper()
	log, err := os.ReadFile(c.log)
	if err != nil {
		b.Fatal(err)
	}
	lines, content := 0, 0
	for record := range bytes.Lines(log) {
		_, piece, found := bytes.Cut(record, []byte(" stdout "))
		if !found || len(piece) < 3 || len(bytes.Trim(piece[2:], "x")) != 1 {
			b.Fatalf("the log has the record %.200q", record)
		}
		if piece[0] == 'F' {
			lines++
		}
		content += len(piece) - len("F \n")
	}
	if lines != logLines || content != logLines*(lineLength-1) {
		b.Fatalf("the log has %d lines of %d bytes in all; %d of %d were written", lines, content, logLines, logLines*(lineLength-1))
	}
}

// clear deletes what a failure left, and all directories.
func (all *boxes) clear(b *testing.B) {
	b.Helper()
	for _, id := range slices.Collect(maps.Keys(all.made)) {
		all.delete(b, id)
	}
	// The common parent of the containers' cgroups, in every hierarchy.
	for _, pattern := range []string{"/sys/fs/cgroup/*" + all.cgroup(), "/sys/fs/cgroup" + all.cgroup()} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			b.Error(err)
		}
		for _, dir := range dirs {
			if err := syscall.Rmdir(dir); err != nil {
				b.Errorf("a cgroup is left: %s: %v", dir, err)
			}
		}
	}
	if err := os.RemoveAll(all.dir); err != nil {
		b.Error(err)
	}
}

// processorTime is what a process took so far in user and kernel mode, without its
// children, in the kernel's ticks of 10 ms.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, in which anything may be; utime and
	// stime are the fields 14 and 15.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has too few fields", pid)
	}
	var ticks uint64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that matters
	return time.Duration(ticks) * tick, nil
}
