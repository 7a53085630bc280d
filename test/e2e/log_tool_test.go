package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSteleLog goes through `stele log` on a daemon that serves, on its directory when it does not,
// and on a file.
func TestSteleLog(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("pod"))
	id := pod.Run(h.ContainerConfig("c"))
	backup := filepath.Join(t.TempDir(), "backup.db")
	for _, c := range []struct{ args, says string }{
		{"backup " + backup, "the log up to record "}, {"verify", "nothing is damaged"}, {"stats", "appended_records"}, {"compact", "the log has "},
		{"verify", "nothing is damaged"},
	} {
		if says := h.Stele(append([]string{"log"}, strings.Fields(c.args)...)...); !strings.Contains(says, c.says) {
			t.Errorf("log %s says %q, want %q", c.args, says, c.says)
		}
	}
	h.Exec(id, "true")
	expectTool(t, h, 1, "exists already", "log", "backup", backup, "--listen", "unix://"+h.Socket)
	expectTool(t, h, 1, "in use by another process", "log", "compact", "--root", h.Root)
	expectTool(t, h, 1, "does not exist", "log", "backup", "/none/b.db", "--listen", "unix://"+h.Socket)
	expectTool(t, h, 2, "a file is given, and a daemon, too", "log", "verify", backup, "--root", h.Root)
	expectTool(t, h, 2, "a file is given, and a daemon, too", "log", "stats", backup, "--listen", "unix://"+h.Socket)
	expectTool(t, h, 2, "accepts 1 arg", "log", "backup")
	expectTool(t, h, 1, "no such file", "log", "verify", backup+".none")
	expectTool(t, h, 1, "no such file", "log", "compact", "--root", t.TempDir())
	expectTool(t, h, 0, "nothing is damaged", "log", "verify", backup)
	expectTool(t, h, 0, "record_bytes", "log", "stats", backup)
	h.Daemon.Stop()
	expectTool(t, h, 0, "nothing is damaged", "log", "verify", "--root", h.Root)
	expectTool(t, h, 0, "first_sequence", "log", "stats", "--root", h.Root)
	expectTool(t, h, 0, "the log has ", "log", "compact", "--root", h.Root)
	expectTool(t, h, 0, "is in ", "log", "backup", backup+".2", "--root", h.Root)
	expectTool(t, h, 0, "nothing is damaged", "log", "verify", backup+".2")
	h.Daemon.Start()
	h.Exec(id, "true")
}

// expectTool runs stele as it is given.
func expectTool(t *testing.T, h *Harness, code int, says string, args ...string) {
	t.Helper()
	out, err := exec.Command(h.Programs.Stele, args...).CombinedOutput()
	got := 0
	if failed, is := errors.AsType[*exec.ExitError](err); is {
		got = failed.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code || !strings.Contains(string(out), says) {
		t.Errorf("stele %s ends with %d and says %q, want %d and %q", strings.Join(args, " "), got, out, code, says)
	}
}
