package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// lines are written to a channel, a line each.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Signals that end a process by default do not end the daemon; they are logged.
func TestSignalsAreLogged(t *testing.T) {
	s := CatchSignals()
	defer s.Stop()
	logged := make(lines, 8)
	b := NewBackground(quiet)
	b.Go("signals", func(ctx context.Context) { s.Log(ctx, slog.New(slog.NewTextHandler(logged, nil))) })
	defer b.End()
	for signal, name := range map[syscall.Signal]string{
		syscall.SIGHUP: "hangup", syscall.SIGUSR1: `"user defined signal 1"`, syscall.SIGUSR2: `"user defined signal 2"`,
	} {
		if err := syscall.Kill(os.Getpid(), signal); err != nil {
			t.Fatal(err)
		}
		if line := ends(t, "the log", (<-chan string)(logged)); !strings.Contains(line, "signal ignored") || !strings.Contains(line, "signal="+name) {
			t.Errorf("%v is logged as %q", signal, line)
		}
	}
}

// A daemon continues after its log's reader ended. In a child process, which has a
// standard error of its own.
func TestBrokenLog(t *testing.T) {
	if os.Getenv("BROKEN_LOG") != "" {
		defer CatchSignals().Stop()
		_, _ = io.ReadAll(os.Stdin) // until the pipe is broken
		for range 3 {
			if _, err := fmt.Fprintln(os.Stderr, "a line"); err == nil {
				os.Exit(3)
			}
		}
		os.Exit(0)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestBrokenLog$")
	child.Env = append(os.Environ(), "BROKEN_LOG=1")
	log, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	child.Stderr = end
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	end.Close()
	log.Close()
	stdin.Close()
	if err := child.Wait(); err != nil {
		t.Errorf("with a broken log the process ended with %v", err)
	}
}
