package oci_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

// A signal right after the start is the program's. runc's init would drop it; the
// program, which is no init here, ends by it, with its trap or without.
func TestSignalRightAfterStart(t *testing.T) {
	n := newNode(t)
	for i := range 20 {
		id := fmt.Sprint("c", i)
		in := n.input(id, "trap 'exit 7' USR1; while :; do sleep 0.01; done")
		security(in).NamespaceOptions.Pid = cri.NamespaceMode_NODE
		n.run(in)
		n.must(n.driver.Kill(t.Context(), n.container(id), unix.SIGUSR1, false))
		n.eventually("the signal ends "+id, func() bool {
			c, err := n.monitor.Container(t.Context(), id)
			n.must(err)
			return c.Exit != nil && (c.Exit.Code == 7 || c.Exit.Signal == int(unix.SIGUSR1))
		})
	}
}

// runc's init would end with code 2.
func TestInitThatIgnoresAnEarlySignal(t *testing.T) {
	n := newNode(t)
	for i := range 10 {
		id := fmt.Sprint("c", i)
		n.run(n.input(id, "trap '' TERM; while :; do sleep 0.01; done"))
		n.must(n.driver.Kill(t.Context(), n.container(id), unix.SIGTERM, false))
		n.must(n.driver.Kill(t.Context(), n.container(id), unix.SIGKILL, true))
		if e := n.exit(id); e.Signal != int(unix.SIGKILL) {
			t.Errorf("%s ended with %+v", id, e)
		}
		n.delete(t.Context(), id)
	}
}

// The runtime finds the program, and the kernel refuses it.
func TestProgramThatCannotBeExecuted(t *testing.T) {
	n := newNode(t)
	for id, program := range map[string]string{
		"exec format error":         "\x7fELF and nothing else",
		"no such file or directory": "#!/no/such/interpreter\n",
	} {
		name := strings.ReplaceAll(id, " ", "-")
		n.must(os.WriteFile(n.path("rootfs/bin/"+name), []byte(program), 0o755))
		in := n.input(name, "")
		in.Container.Command = []string{"/bin/" + name}
		n.create(in)
		_, err := n.driver.Start(t.Context(), n.container(name))
		want := "exec /bin/" + name + ": " + id
		if fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// What ends at once was started, whatever its code, and not after its end.
func TestProgramThatEndsAtOnce(t *testing.T) {
	n := newNode(t)
	for i, code := range slices.Repeat([]int{0, 255}, 10) {
		id := fmt.Sprint("c", i)
		n.create(n.input(id, fmt.Sprint("exit ", code)))
		asked := time.Now()
		started, err := n.driver.Start(t.Context(), n.container(id))
		n.must(err)
		e := n.exit(id)
		if e.Code != code || started.Before || started.At.Before(asked) || started.At.After(e.Time) {
			t.Errorf("asked at %v, %+v, and it ended with %+v", asked, started, e)
		}
		n.delete(t.Context(), id)
	}
}

// BenchmarkStart is what a start takes until the program runs.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		id := fmt.Sprint("c", i)
		n.create(n.input(id, "sleep 1000"))
		b.StartTimer()
		n.start(id)
		b.StopTimer()
		n.delete(b.Context(), id)
		b.StartTimer()
	}
}
