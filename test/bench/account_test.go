package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/test/audit"
)

// account is a cgroup that counts the CPU time of all that a daemon causes: itself, its monitor or
// shims, the programs that it executes, and its pods. It counts what has ended, too, and nothing
// of the kernel's own threads.
type account struct {
	// pods is the parent of the pods' cgroups.
	pods string
	// mountpoint is of the tree that counts, file has the count: nanoseconds on v1,
	// lines on v2, among them microseconds.
	mountpoint, daemon, file string
	unified                  bool
}

var accounts atomic.Int64

// openAccount makes the cgroup. It is removed at the end, when the daemon is gone: it is opened
// before the daemon starts.
func openAccount(b *testing.B) *account {
	b.Helper()
	node, err := cgroups.Detect()
	if err != nil {
		b.Fatal(err)
	}
	top := fmt.Sprintf("/stele-bench-%d-%d", os.Getpid(), accounts.Add(1))
	a := &account{pods: top + "/pods"}
	for _, h := range node.Hierarchies {
		if node.Layout == cgroups.V2 || slices.Contains(h.Controllers, "cpuacct") {
			a.mountpoint, a.unified = h.Mountpoint, h.Unified
		}
	}
	if a.mountpoint == "" {
		b.Fatal("no cgroup hierarchy counts CPU time")
	}
	name := "cpuacct.usage"
	if a.unified {
		name = "cpu.stat"
	}
	a.daemon, a.file = filepath.Join(a.mountpoint, top, "daemon"), filepath.Join(a.mountpoint, top, name)
	b.Cleanup(func() {
		if err := audit.Clear(audit.Scope{Cgroups: []string{top}}); err != nil {
			b.Error(err)
		}
	})
	if err := os.MkdirAll(a.daemon, 0o755); err != nil {
		b.Fatal(err)
	}
	return a
}

// add counts processes from now on, and what they start.
func (a *account) add(b *testing.B, pids ...int) {
	b.Helper()
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(a.daemon, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			b.Fatal(err)
		}
	}
}

// spent is the CPU time until now.
func (a *account) spent(b *testing.B) time.Duration {
	b.Helper()
	content, err := os.ReadFile(a.file)
	if err != nil {
		b.Fatal(err)
	}
	unit, number := time.Nanosecond, bytes.TrimSpace(content)
	if a.unified {
		unit = time.Microsecond
		_, rest, _ := bytes.Cut(content, []byte("usage_usec "))
		number, _, _ = bytes.Cut(rest, []byte("\n"))
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		b.Fatalf("%s: %v", a.file, err)
	}
	return time.Duration(n) * unit
}

// settle waits until next to nothing is spent any more, so that what is done after an answer
// counts for those who asked, and does not disturb the next.
func (a *account) settle(b *testing.B) {
	b.Helper()
	const pause, little = 50 * time.Millisecond, time.Millisecond
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		before := a.spent(b)
		time.Sleep(pause)
		if a.spent(b)-before < little {
			return
		}
	}
}

// stateIn makes a directory for what does not outlive a boot, on a tmpfs, where nodes have it, or
// on the disk.
func stateIn(b *testing.B, tmpfs bool) string {
	b.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "stele-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if tmpfs {
			if err := unix.Unmount(dir, 0); err != nil {
				b.Errorf("unmount %s: %v", dir, err)
				return
			}
		}
		if err := os.Remove(dir); err != nil {
			b.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if tmpfs {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			b.Fatalf("mount a tmpfs at %s: %v", dir, err)
		}
	}
	return dir
}
