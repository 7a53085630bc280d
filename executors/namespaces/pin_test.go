package namespaces

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
)

// inside runs f on a thread that is in the pinned namespaces.
func inside(t *testing.T, dir string, f func() error) {
	t.Helper()
	err := onThreadOfItsOwn(func() error {
		for _, k := range []kind{kindNet, kindIPC, kindUTS} {
			if err := enter(filepath.Join(dir, k.file), k.flag); err != nil {
				return err
			}
		}
		return f()
	})
	if err != nil {
		t.Error(err)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func threadHostname() (string, error) {
	var name unix.Utsname
	err := unix.Uname(&name)
	return unix.ByteSliceToString(name.Nodename[:]), err
}

func pinned(t *testing.T) Request {
	t.Helper()
	r := Request{
		Dir: filepath.Join(t.TempDir(), "ns"), Network: true, IPC: true, UTS: true, Hostname: "pod-name",
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel/shmmni": "77", "fs.mqueue.msg_max": "11"},
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		if err := Unpin(context.Background(), r.Dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestPinMakesNamespacesOfTheirOwn(t *testing.T) {
	before, shm := read("/proc/sys/net/ipv4/ip_forward"), read("/proc/sys/kernel/shmmni")
	r := pinned(t)
	for range 2 { // the second time finds what the first left
		if err := Pin(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	inside(t, r.Dir, func() error {
		for path, want := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/kernel/shmmni": "77", "/proc/sys/fs/mqueue/msg_max": "11",
		} {
			if got := read(path); got != want {
				return fmt.Errorf("%s is %q, want %q", path, got, want)
			}
		}
		name, err := threadHostname()
		if err != nil || name != "pod-name" {
			return fmt.Errorf("host name %q, %v", name, err)
		}
		return nil
	})
	if got := read("/proc/sys/net/ipv4/ip_forward"); got != before {
		t.Errorf("the node's ip_forward went from %s to %s", before, got)
	}
	if got := read("/proc/sys/kernel/shmmni"); got != shm {
		t.Errorf("the node's shmmni went from %s to %s", shm, got)
	}
	for range 2 {
		if err := Unpin(t.Context(), r.Dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestPinFinishesWhatIsHalfMade(t *testing.T) {
	r := pinned(t)
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "net"), nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := Pin(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"net", "ipc", "uts"} {
		if ok, err := isPinned(filepath.Join(r.Dir, file)); !ok || err != nil {
			t.Errorf("%s is not pinned: %v", file, err)
		}
	}
}

func TestPinsAtOnce(t *testing.T) {
	var all sync.WaitGroup
	for range 32 {
		r := pinned(t)
		all.Go(func() {
			if err := Pin(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// The threads that entered namespaces are gone: what runs now is on the node.
	if got, want := readlink("/proc/thread-self/ns/net"), readlink("/proc/self/ns/net"); got != want {
		t.Errorf("a thread was left in %s, the process is in %s", got, want)
	}
}

func readlink(path string) string {
	s, _ := os.Readlink(path)
	return s
}

func TestSysctlsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		key, value           string
		hostNetwork, hostIPC bool
	}{
		{key: "kernel.core_pattern", value: "|/bin/sh"},
		{key: "kernel.shm_rmid_forced", value: "1+kernel.core_pattern=|/x\n"}, // CVE-2022-0811
		{key: "net.ipv4.ip_forward", value: "1\nkernel.core_pattern=|/x"},
		{key: "net.ipv4.ip_forward", value: "1", hostNetwork: true}, // CVE-2022-0532
		{key: "kernel.sem", value: "1 2 3 4", hostIPC: true},
		{key: "net/../kernel/core_pattern", value: "x"},
		{key: "net.ipv4/../../kernel/core_pattern", value: "x"},
		{key: "kernel.hostname", value: "x"},
		{key: "fs.mqueue", value: "1"},
		{key: "net", value: "1"},
		{key: "", value: "1"},
		{key: "net.ipv4.ip_forward+kernel.core_pattern", value: "1"},
	} {
		err := ValidateSysctls(map[string]string{c.key: c.value}, c.hostNetwork, c.hostIPC)
		if fault.KindOf(err) != fault.Invalid || err == nil {
			t.Errorf("%q=%q: %v", c.key, c.value, err)
			continue
		}
		if !strings.Contains(err.Error(), "linux.sysctls[") {
			t.Errorf("%q=%q: the error does not name the field: %v", c.key, c.value, err)
		}
	}
	for key, value := range map[string]string{"net.ipv4.ip_forward": "1", "kernel/sem": "1 2\t3 4", "net/ipv4/conf/eth0.1/forwarding": "1"} {
		if err := ValidateSysctls(map[string]string{key: value}, false, false); err != nil {
			t.Error(err)
		}
	}
}
