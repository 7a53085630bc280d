package stats

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"golang.org/x/sys/unix"
)

const headings = "Inter-|   Receive                                                |  Transmit\n" +
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"

func TestInterfaces(t *testing.T) {
	got := parseInterfaces([]byte(headings +
		"    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n" +
		"  net1:  100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n" +
		"  eth0:11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26\n"))
	if len(got) != 2 {
		t.Fatalf("interfaces: %v", got)
	}
	want := interfaceUsage{"eth0", known(11), known(12), known(13), known(14), known(19), known(20), known(21), known(22)}
	if got[0] != want || got[1].name != "net1" {
		t.Errorf("got %v, want %v first", got, want)
	}
	message := network{interfaces: got}.message()
	if message.GetDefaultInterface().GetName() != "eth0" || message.GetDefaultInterface().GetTxErrors().GetValue() != 21 ||
		len(message.GetInterfaces()) != 1 || message.GetInterfaces()[0].GetRxBytes().GetValue() != 100 {
		t.Errorf("message: %v", message)
	}
}

// A kubelet reads the name of the default interface without a look whether there is one.
func TestNetworkAlwaysHasADefaultInterface(t *testing.T) {
	if got := (network{interfaces: parseInterfaces([]byte(headings))}).message(); got != nil {
		t.Errorf("a pod that removed its interface: %v", got)
	}
	got := network{interfaces: parseInterfaces([]byte("a: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"))}.message()
	if got.GetDefaultInterface().GetName() != "a" {
		t.Errorf("a pod whose interface has another name: %v", got)
	}
}

func TestHostileInterfaces(t *testing.T) {
	var many strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&many, "x%d: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", i)
	}
	for what, content := range map[string]string{
		"not UTF-8": "\xff\xfe: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", "short": "a: 1 2\n", "no colon": "a 1 2 3\n", "nothing": "",
		"huge": "a: 99999999999999999999 -1 x 4 5 6 7 8 9 10 11 12 13 14 15 16\n", "cut": "a: 1 2 3 4 5 6 7 8 9 10 11 12 13", "many": many.String(),
	} {
		got := parseInterfaces([]byte(content))
		if len(got) > maxInterfaces {
			t.Errorf("%s: %d interfaces", what, len(got))
		}
		for _, x := range got {
			if !utf8.ValidString(x.name) {
				t.Errorf("%s: the name %q makes the answer invalid", what, x.name)
			}
		}
		if _, err := proto.Marshal(network{interfaces: got}.message()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// pinned makes a network namespace without a process in it, and pins it.
func pinned(t testing.TB, command string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root: it makes network namespaces")
	}
	pin := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(pin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ownThread(func(*thread) {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", pin, "", unix.MS_BIND, "")
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		if err := unix.Unmount(pin, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	args := append([]string{"--net=" + pin}, strings.Fields(command)...)
	if out, err := exec.Command("nsenter", args...).CombinedOutput(); err != nil {
		t.Fatalf("nsenter %v: %v, %s", args, err, out)
	}
	return pin
}

// Namespaces are read without a process in them, each its own, by threads that come back.
func TestNetworkNamespaces(t *testing.T) {
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var pods []Pod
	for i := range 20 {
		command := fmt.Sprintf("ip link add eth0 type veth peer name own%d", i)
		if i == 7 { // which has removed the interface that it was given
			command = "ip link add own7 type veth peer name own7-peer"
		}
		pods = append(pods, Pod{Network: pinned(t, command)}, Pod{Network: filepath.Join(t.TempDir(), "none")})
	}
	r := onV2("testdata/v2", false)
	for range 5 {
		answer, err := r.Pods(t.Context(), pods)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			n, own := answer[2*i].GetNetwork(), fmt.Sprintf("own%d", i)
			switch {
			case i == 7:
				if n.GetDefaultInterface() == nil || len(n.GetInterfaces()) != 1 {
					t.Errorf("%d: %v", i, n)
				}
			case n.GetDefaultInterface().GetName() != "eth0" || len(n.GetInterfaces()) != 1 || n.GetInterfaces()[0].GetName() != own:
				t.Errorf("%d: %v", i, n)
			}
			if answer[2*i+1].GetNetwork() != nil {
				t.Errorf("a namespace that is gone has %v", answer[2*i+1])
			}
		}
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil && ns != home {
			t.Errorf("a thread was left in %s", ns)
		}
	}
}

func TestCallerThatIsGone(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r := onV2("testdata/v2", false)
	if _, err := r.Containers(gone, make([]Container, 100)); err == nil {
		t.Error("no error")
	}
	if _, err := r.Pods(gone, make([]Pod, 100)); err == nil {
		t.Error("no error")
	}
	if _, err := r.PodMetrics(gone, make([]Pod, 100)); err == nil {
		t.Error("no error")
	}
}
