// Package pause is the first process of a pod whose containers share a PID
// namespace: it holds the namespace, takes the statuses of the orphans that end
// up with it, and leaves when it is told to. It does nothing else, and needs
// nothing of the rest of the monitor, in whose binary it is so that no image of
// its own is needed.
package pause

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Run waits for SIGTERM or SIGINT. The kernel keeps all other signals from the
// first process of a namespace, unless it has a handler.
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

// reap takes the status of every child that has ended.
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
