// Package pause is the first process of a pod whose containers share a PID namespace: it
// holds the namespace, reaps the orphans that it inherits, and ends on a signal. It does
// nothing else, and needs nothing of the monitor; it is in the monitor's binary so that
// it needs no image.
package pause

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Run waits for SIGTERM or SIGINT. The kernel drops all other signals to the first
// process of a namespace that has no handler for them.
func Run() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(10)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	for {
		reap()
		select {
		case <-children:
		case <-signals:
			return
		}
	}
}

// reap reaps every child that has ended.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
