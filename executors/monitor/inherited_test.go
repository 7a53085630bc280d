package monitor_test

import (
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A descriptor that the daemon has inherited ends with the daemon, and not with the
// monitor.
func TestInheritedDescriptors(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(pipe[0]), "pipe")
	defer r.Close()
	unix.CloseOnExec(pipe[0])
	n := newNode(t)
	if err := unix.Close(pipe[1]); err != nil {
		t.Fatal(err)
	}
	n.run(container{id: "a", script: "sleep 1000"})
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe has no end: %v", err)
	}
}
