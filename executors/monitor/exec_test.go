package monitor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/executors/monitor"
	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// execRequest prepares an exec of a shell script in a container.
func (n *node) execRequest(id, execID, script string) monitor.ExecRequest {
	n.t.Helper()
	process := filepath.Join(n.bundle(id), execID+".json")
	n.writeJSON(process, specs.Process{Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}, Cwd: "/"})
	pidFile := filepath.Join(n.bundle(id), execID+".pid")
	return monitor.ExecRequest{
		ContainerID: id,
		ExecID:      execID,
		Runtime:     tools.runc,
		Args:        n.args(id, "exec", "--process", process, "--detach", "--pid-file", pidFile, id),
		PidFile:     pidFile,
	}
}

// exec runs a script and returns its standard output too.
func (n *node) exec(ctx context.Context, r monitor.ExecRequest) (monitor.ExecResult, string, error) {
	n.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		n.t.Fatal(err)
	}
	defer read.Close()
	r.Stdout = write
	var out bytes.Buffer
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(&out, read)
	}()
	result, err := n.client.Exec(ctx, r)
	write.Close()
	// A child in the background may hold the pipe: what the command wrote is in it by now.
	n.eventually("the output is read", func() bool { return unread(n.t, read) == 0 })
	read.SetReadDeadline(time.Now())
	<-copied
	return result, out.String(), err
}

// unread returns how many bytes a pipe holds.
func unread(t testing.TB, pipe *os.File) (size int) {
	t.Helper()
	raw, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asked error
	if err := raw.Control(func(fd uintptr) { size, asked = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil || asked != nil {
		t.Fatal(err, asked)
	}
	return size
}

func TestExec(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	result, out, err := n.exec(context.Background(), n.execRequest("a", "x1", "echo hello; exit 3"))
	if err != nil || result != (monitor.ExecResult{Code: 3}) || out != "hello\n" {
		t.Errorf("exec gave %+v, %q, %v", result, out, err)
	}
	result, _, err = n.exec(context.Background(), n.execRequest("a", "x2", "kill -9 $$"))
	if err != nil || result != (monitor.ExecResult{Code: 137, Signal: 9}) {
		t.Errorf("exec gave %+v, %v", result, err)
	}
	// Nothing of it is in the container's log.
	if records := n.records(n.log("a")); len(records) != 0 {
		t.Errorf("the log has %v", records)
	}
	// A child in the background does not delay the call.
	result, out, err = n.exec(context.Background(), n.execRequest("a", "x3", "sleep 1000 & echo started; exit 0"))
	if err != nil || result != (monitor.ExecResult{}) || out != "started\n" {
		t.Errorf("exec gave %+v, %q, %v", result, out, err)
	}
}

func TestExecInput(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r := n.execRequest("a", "x", "cat; cat <&0; echo end >&2")
	r.Stdin = read
	stderrRead, stderrWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stderrRead.Close()
	r.Stderr = stderrWrite
	go func() {
		_, _ = io.WriteString(write, "typed")
		write.Close()
	}()
	result, out, err := n.exec(context.Background(), r)
	read.Close()
	stderrWrite.Close()
	if err != nil || result.Code != 0 || out != "typed" {
		t.Errorf("exec gave %+v, %q, %v", result, out, err)
	}
	if said, err := io.ReadAll(stderrRead); err != nil || string(said) != "end\n" {
		t.Errorf("standard error has %q, %v", said, err)
	}
}

func TestExecFails(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	r := n.execRequest("a", "x", "")
	n.writeJSON(filepath.Join(n.bundle("a"), "x.json"), specs.Process{Args: []string{"/nowhere"}, Cwd: "/"})
	_, err := n.client.Exec(context.Background(), r)
	var runtimeErr *monitor.RuntimeError
	if !errors.As(err, &runtimeErr) || runtimeErr.Op != "exec" || runtimeErr.ExitCode == 0 || !strings.Contains(runtimeErr.Message, "/nowhere") {
		t.Errorf("exec gave %#v", err)
	}
	r = n.execRequest("a", "y", "true")
	r.ContainerID = "unknown"
	if _, err := n.client.Exec(context.Background(), r); !errors.Is(err, monitor.ErrNotFound) {
		t.Errorf("exec in an unknown container gave %v", err)
	}
}

// hostPIDs returns the processes of a container's exec, by the command line that
// the script gave them.
func hostPIDs(t *testing.T, mark string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range dirs {
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte(mark)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestExecTimeout(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "31415.9265"
	r := n.execRequest("a", "x", "sleep "+mark+" & sleep "+mark+"; true")
	r.Timeout = 500 * time.Millisecond
	result, _, err := n.exec(context.Background(), r)
	if err != nil || !result.TimedOut {
		t.Errorf("exec gave %+v, %v", result, err)
	}
	n.eventually("the exec's processes are gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
	// A runtime that hangs counts too.
	hang := filepath.Join(n.dir, "hang")
	if err := os.WriteFile(hang, []byte("#!/bin/sh\nsleep "+mark+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r = n.execRequest("a", "y", "true")
	r.Runtime, r.Timeout = hang, 200*time.Millisecond
	result, err = n.client.Exec(context.Background(), r)
	if err != nil || !result.TimedOut {
		t.Errorf("exec with a runtime that hangs gave %+v, %v", result, err)
	}
	n.eventually("the runtime is gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
}

func TestExecIsCanceled(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "27182.8182"
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, err := n.exec(ctx, n.execRequest("a", "x", "sleep "+mark+"; true"))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("exec gave %v", err)
		}
		if pids := hostPIDs(t, mark); len(pids) != 0 {
			t.Errorf("processes %v were left when Exec returned", pids)
		}
	})
	n.eventually("the exec runs", func() bool { return len(hostPIDs(t, mark)) > 0 })
	cancel()
	wg.Wait()
}

func TestExecDiesWithTheDaemon(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "16180.3398"
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := n.exec(context.Background(), n.execRequest("a", "x", "sleep "+mark+"; true")); err == nil {
			t.Error("the exec succeeded")
		}
	})
	n.eventually("the exec runs", func() bool { return len(hostPIDs(t, mark)) > 0 })
	n.client.Close()
	wg.Wait()
	n.eventually("the exec's processes are gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
	n.connect()
	if list, err := n.client.List(context.Background()); err != nil || len(list) != 1 || list[0].Exit != nil {
		t.Errorf("List gave %+v, %v", list, err)
	}
}

// The daemon is gone before it can be told that the process runs.
func TestExecDiesWithTheDaemonAtItsStart(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	const mark = "16180.3399"
	dir := t.TempDir()
	script, goOn, pidFile := filepath.Join(dir, "runtime"), filepath.Join(dir, "go-on"), filepath.Join(dir, "pid")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nsetsid sleep %s &\necho $! >%[2]s.new; mv %[2]s.new %[2]s\nwhile ! [ -e %s ]; do sleep 0.01; done\n", mark, pidFile, goOn), 0o755); err != nil {
		t.Fatal(err)
	}
	daemon, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(daemon)
	t.Cleanup(func() {
		for _, pid := range hostPIDs(t, mark) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	if err := unix.Connect(daemon, &unix.SockaddrUnix{Name: filepath.Join(n.config.StateDir, "monitor", "monitor.sock")}); err != nil {
		t.Fatal(err)
	}
	for _, request := range []*pb.Request{
		{Id: 1, Call: &pb.Request_Hello{Hello: &pb.Hello{MinVersion: 1, MaxVersion: 1000}}},
		{Id: 2, Call: &pb.Request_Exec{Exec: &pb.Exec{ContainerId: "a", ExecId: "x", Runtime: script, Env: []string{"PATH=" + os.Getenv("PATH")}, PidFile: pidFile}}},
	} {
		frame, err := proto.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(daemon, frame); err != nil {
			t.Fatal(err)
		}
	}
	n.eventually("the runtime has left the process", func() bool {
		_, err := os.Stat(pidFile)
		return err == nil
	})
	// Only what is sent to the daemon fails, so that the monitor does not learn it otherwise.
	if err := unix.Shutdown(daemon, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.eventually("the exec's process is gone", func() bool { return len(hostPIDs(t, mark)) == 0 })
}

func TestManyExecs(t *testing.T) {
	n := newNode(t)
	n.run(container{id: "a", script: "sleep 1000"})
	var wg sync.WaitGroup
	for i := range 20 {
		r := n.execRequest("a", fmt.Sprint("x", i), fmt.Sprintf("echo %d; exit %d", i, i))
		wg.Go(func() {
			result, out, err := n.exec(context.Background(), r)
			if err != nil || result.Code != i || out != fmt.Sprintln(i) {
				t.Errorf("exec %d gave %+v, %q, %v", i, result, out, err)
			}
		})
	}
	wg.Wait()
}
