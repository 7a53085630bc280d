package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestOthersEndWithTheInit: where the kernel leaves a container's processes alone when
// its init ends, they are killed, so that none lives on beside the next attempt; also
// if no daemon ran when it ended.
func TestOthersEndWithTheInit(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	var ids, marks []string
	for i, mode := range []runtimeapi.NamespaceMode{runtimeapi.NamespaceMode_POD, runtimeapi.NamespaceMode_NODE} {
		config := h.PodConfig("p" + fmt.Sprint(i))
		config.Linux.SecurityContext.NamespaceOptions.Pid = mode
		pod := h.RunPod(config)
		for _, trigger := range []string{"now", "later"} {
			mark := fmt.Sprintf("%d%d%d", 7000000+h.Number, i, len(trigger))
			c := h.ContainerConfig(trigger, "sh", "-c",
				"setsid sleep "+mark+" & while [ ! -e /share/"+trigger+" ]; do sleep 0.02; done; exit 3")
			c.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: mode}
			c.Mounts = []*runtimeapi.Mount{{HostPath: h.Share, ContainerPath: "/share"}}
			ids = append(ids, pod.Run(c))
			marks = append(marks, mark)
			h.Eventually("the other process runs", func() bool { return runs("sleep", mark) })
		}
	}
	h.write(filepath.Join(h.Share, "now"), "")
	h.Eventually("those of the first end", func() bool { return !runs("sleep", marks[0]) && !runs("sleep", marks[2]) })
	h.Daemon.Kill9()
	h.write(filepath.Join(h.Share, "later"), "")
	h.Daemon.Start()
	for i, id := range ids {
		if got := h.WaitExit(id); got.ExitCode != 3 {
			t.Errorf("exit code %d, want 3", got.ExitCode)
		}
		h.Eventually("no process is left", func() bool { return !runs("sleep", marks[i]) })
	}
}

// runs reports whether a process of the node has these arguments.
func runs(args ...string) bool {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		line, _ := os.ReadFile(path)
		if strings.TrimSuffix(string(line), "\x00") == strings.Join(args, "\x00") {
			return true
		}
	}
	return false
}
