package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// environMost bounds what is read of a process's environment, in bytes.
	environMost = 1 << 20
	// orphanPoll is how often the context is looked at while a process ends, in
	// milliseconds.
	orphanPoll = 100
)

// endOrphans kills the plugins that still work for a pod, with their descendants,
// and waits until they are gone. Plugins outlive a daemon that is killed: an ADD
// that continued during the DEL that is to undo it would leak what it takes.
//
// Descendants inherit a plugin's environment, which names the pod.
func endOrphans(ctx context.Context, id string) error {
	for {
		found := false
		processes, err := os.ReadDir("/proc")
		if err != nil {
			return fmt.Errorf("look for plugins of pod %s: %w", id, err)
		}
		for _, process := range processes {
			pid, err := strconv.Atoi(process.Name())
			if err != nil || !worksFor(pid, id) {
				continue
			}
			found = true
			if err := end(ctx, pid, id); err != nil {
				return fmt.Errorf("end a plugin of pod %s: %w", id, err)
			}
		}
		if !found { // none was started during the search either
			return nil
		}
	}
}

// worksFor reports whether a process is a plugin for a pod or started by one.
func worksFor(pid int, id string) bool {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false // it is gone
	}
	defer func() { _ = f.Close() }() // read-only
	environ, err := io.ReadAll(io.LimitReader(f, environMost))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(variable []byte) bool {
		return string(variable) == "CNI_CONTAINERID="+id
	})
}

// end kills a process if it still is the one that was found, and waits for its end.
func end(ctx context.Context, pid int, id string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }() // it only refers to the process
	if !worksFor(pid, id) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	for {
		ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ended, orphanPoll)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("wait for process %d: %w", pid, context.Cause(ctx))
		}
	}
}
