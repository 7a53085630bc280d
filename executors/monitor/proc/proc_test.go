package proc

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell starts a script in its own session and returns its identity and the pids that it
// prints, one a line, before it closes its output.
func shell(t *testing.T, script string) (*exec.Cmd, Identity, []int) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	var pids []int
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "done" {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return cmd, Identify(cmd.Process.Pid, pidfd), pids
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it never came about that %s", what)
}

func dead(pid int) bool {
	s, err := readStat(pid)
	return err != nil || s.ended()
}

// Children, orphans of the session, a session below, and an orphan in that.
func TestKillTree(t *testing.T) {
	cmd, id, pids := shell(t, strings.Join([]string{
		`sleep 1000 & echo $!`,
		`sh -c 'sleep 1000 & echo $!'`,
		`setsid sh -c 'echo $$; sh -c "sleep 1000 & echo \$!"; echo done; exec sleep 1000' &`,
		`exec sleep 1000`,
	}, "\n"))
	if len(pids) != 4 {
		t.Fatalf("the script told %v", pids)
	}
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	KillTree(Identity{PID: id.PID, StartTime: id.StartTime + 1})
	for _, pid := range pids {
		if dead(pid) {
			t.Errorf("%d was killed for another process", pid)
		}
	}
	KillTree(id)
	if err := cmd.Wait(); err == nil {
		t.Error("the shell ended well")
	}
	for _, pid := range pids {
		eventually(t, "the tree is dead", func() bool { return dead(pid) })
	}
	if dead(stranger.Process.Pid) {
		t.Error("a process that doesn't belong to the tree was killed")
	}
	_ = stranger.Process.Kill()
	_ = stranger.Wait()
}

// A process that forks as fast as it can has to stop, too.
func TestKillTreeThatGrows(t *testing.T) {
	mark := fmt.Sprintf("2718.%d", os.Getpid()) // the test of another checkout may run as well
	cmd, id, _ := shell(t, "echo done; while true; do setsid sleep "+mark+" & done")
	time.Sleep(50 * time.Millisecond)
	KillTree(id)
	_ = cmd.Wait()
	eventually(t, "none of them is left", func() bool {
		all, err := list()
		if err != nil {
			t.Fatal(err)
		}
		for pid := range all {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(string(line), mark) && !dead(pid) {
				return false
			}
		}
		return true
	})
}

// leaderless, in the environment, makes TestKillTreeWithoutLeader the process that is killed.
const leaderless = "STELE_TEST_LEADERLESS"

// The first thread of a process can end before the others. The process looks like a zombie, and
// is none.
func TestKillTreeWithoutLeader(t *testing.T) {
	if os.Getenv(leaderless) != "" {
		endFirstThread()
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillTreeWithoutLeader$")
	cmd.Env = append(os.Environ(), leaderless+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	eventually(t, "the first thread has ended", func() bool { return dead(pid) })
	KillTree(Identity{PID: pid, StartTime: StartTime(pid)})
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it was not killed")
		_ = cmd.Process.Kill()
		<-ended
	}
}

// endFirstThread ends the process's first thread, whichever runs this, and never returns.
func endFirstThread() {
	for !dead(os.Getpid()) {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {}
		}()
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Hour)
}

func TestZombieOfASignal(t *testing.T) {
	cmd, id, _ := shell(t, "echo done; exec sleep 1000")
	pidfd, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if status, err := ZombieStatus(pidfd); err == nil {
		t.Errorf("what lives says %v", status)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has ended", func() bool { return dead(id.PID) })
	if status, err := ZombieStatus(pidfd); err != nil || !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("the zombie says %v, %v", status, err)
	}
	_ = cmd.Wait()
}

func TestIdentity(t *testing.T) {
	cmd, id, _ := shell(t, "echo done; exit 7")
	pidfd, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if _, err := (Identity{PID: id.PID, StartTime: id.StartTime + 1, Inode: id.Inode}).Open(); err == nil {
		t.Error("a process was taken for another")
	}
	eventually(t, "it has ended", func() bool { return dead(id.PID) })
	if status, err := ZombieStatus(pidfd); err != nil || status.ExitStatus() != 7 {
		t.Errorf("the zombie says %v, %v", status, err)
	}
	_ = cmd.Wait()
	if status, err := ZombieStatus(pidfd); err == nil {
		t.Errorf("what is gone says %v", status)
	}
	if status, err := WaitStatus(pidfd); err != nil || status.ExitStatus() != 7 {
		t.Errorf("the pidfd says %v, %v", status, err)
	}
	if _, err := id.Open(); err == nil {
		t.Error("a process that is gone was opened")
	}
}
