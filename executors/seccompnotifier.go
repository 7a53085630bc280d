package executors

import (
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/syscalls"
)

const (
	// stopAfter is CRI-O's: a container is ended when it has made no forbidden call for this time.
	stopAfter = 5 * time.Second
	// stopAtMost is how long after its first forbidden call a container is ended that goes on
	// making them.
	stopAtMost = time.Minute
)

// notifier has the monitor answer the calls that a container's profile forbids, if its pod wants to
// know of them, and changes the profile for that; nil if there is nothing to know.
func (x containers) notifier(c id.Container, notice *confine.Notice, profile *specs.LinuxSeccomp, runtime *oci.Driver) (*monitor.Notifier, error) {
	if notice == nil {
		return nil, nil
	}
	path := x.seccompSocket(c)
	// A container's own kernel, gVisor's, reports nothing.
	errnos, err := notice.Notify(profile, path, !runtime.OwnKernel() && confine.CanNotify(runtime.Features()))
	if err != nil || errnos == nil {
		return nil, err
	}
	n := &monitor.Notifier{Path: path, Error: uint32(unix.EPERM), Errors: map[monitor.Syscall]uint32{}}
	for name, number := range errnos {
		if number == n.Error {
			continue
		}
		for _, call := range syscalls.Named(name) {
			n.Errors[monitor.Syscall{Arch: uint32(call.Arch), Number: call.Number}] = number
		}
	}
	if notice.Stop {
		n.StopAfter, n.StopAtMost = stopAfter, stopAtMost
	}
	return n, nil
}
