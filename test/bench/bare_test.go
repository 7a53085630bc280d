package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/test/e2e"
)

// bare runs the runtime on what Stele has made, with the arguments and streams that Stele gives it,
// but without Stele.
type bare struct {
	runtime string
	// container is one of Stele's that runs, bundle and root are where Stele has its bundle and
	// the runtime's state.
	container, bundle, root string
	// dir is a directory beside them, for what this makes.
	dir string
	// report has what the runtime took.
	report *report
}

const runcCreate, runcExec = "runc create", "runc exec"

// overhead is what a call should add at most to the time of the runtime's command, in milliseconds.
type overhead struct {
	call, command string
	goal          float64
}

var createOver, execOver = overhead{"CreateContainer", runcCreate, 3}, overhead{"ExecSync", runcExec, 1.5}

// newBare prepares a container's twin, with a cgroup below parent.
func newBare(b *testing.B, h *e2e.Harness, container, parent string) *bare {
	b.Helper()
	r := &bare{
		runtime: h.Programs.Runc, container: container, report: &report{},
		bundle: filepath.Join(h.State, "containers", container), root: filepath.Join(h.State, "runtimes", "runc"),
	}
	var err error
	if r.dir, err = os.MkdirTemp(filepath.Dir(h.State), "bare-"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(r.dir); err != nil {
			b.Error(err)
		}
	})
	spec := r.spec(b)
	spec.Linux.CgroupsPath = parent + "/" + filepath.Base(r.dir)
	r.write(b, "config.json", spec)
	process := *spec.Process
	process.Args = probe
	r.write(b, "process.json", process)
	return r
}

func (r *bare) spec(b *testing.B) (spec specs.Spec) {
	b.Helper()
	content, err := os.ReadFile(filepath.Join(r.bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(content, &spec)
	}
	if err != nil {
		b.Fatal(err)
	}
	return spec
}

func (r *bare) write(b *testing.B, name string, content any) {
	b.Helper()
	encoded, err := json.Marshal(content)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, name), encoded, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// create makes the twin, and deletes it, which is not part of the time.
func (r *bare) create() error {
	const id = "twin"
	own, pid := filepath.Join(r.dir, "root"), filepath.Join(r.dir, "pid")
	streams, err := newStreams()
	if err != nil {
		return err
	}
	defer streams.close()
	err = r.report.time(runcCreate, func() error {
		return r.run(streams, own, "create", "--bundle", r.dir, "--pid-file", pid, id)
	})
	out, deleteErr := exec.Command(r.runtime, "--root", own, "delete", "--force", id).CombinedOutput()
	if deleteErr != nil {
		deleteErr = fmt.Errorf("runc delete: %w: %s", deleteErr, out)
	}
	return errors.Join(err, deleteErr)
}

// exec executes the probe in Stele's container, until its output has ended.
func (r *bare) exec() error {
	streams, err := newStreams()
	if err != nil {
		return err
	}
	defer streams.close()
	return r.report.time(runcExec, func() error {
		err := r.run(streams, r.root, "exec", "--detach", "--process", filepath.Join(r.dir, "process.json"),
			"--pid-file", filepath.Join(r.dir, "pid"), r.container)
		return errors.Join(err, streams.end())
	})
}

// run runs a command of the runtime as Stele does.
func (r *bare) run(s *streams, root string, args ...string) error {
	log := filepath.Join(r.dir, "log")
	command := exec.Command(r.runtime, append([]string{"--root", root, "--log-format", "json", "--log", log}, args...)...)
	command.Env, command.Dir = []string{"PATH=" + os.Getenv("PATH")}, r.dir
	command.Stdout, command.Stderr = s.write[0], s.write[1]
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Run(); err != nil {
		said, _ := os.ReadFile(log)
		return fmt.Errorf("runc: %w: %s", err, said)
	}
	return nil
}

// streams are pipes for standard output and standard error.
type streams struct{ read, write [2]*os.File }

func newStreams() (*streams, error) {
	s := &streams{}
	for i := range s.read {
		var err error
		if s.read[i], s.write[i], err = os.Pipe(); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// end reads until nobody can write any more.
func (s *streams) end() error {
	var errs []error
	for i := range s.read {
		_ = s.write[i].Close()
		_, err := io.Copy(io.Discard, s.read[i])
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *streams) close() {
	for i := range s.read {
		_, _ = s.read[i].Close(), s.write[i].Close()
	}
}

// over says how much longer the call took than the runtime alone.
func (r *bare) over(b *testing.B, o overhead, where string, took float64) {
	b.Helper()
	alone := milliseconds(r.report.medians()[o.command])
	b.ReportMetric(took-alone, "over-"+o.command[len("runc "):]+"-ms")
	fmt.Fprintf(os.Stdout, "%s, %s: %s of the same alone takes %.2f ms, Stele %+.2f ms; the goal is %+.1f ms\n",
		o.call, where, o.command, alone, took-alone, o.goal)
}
