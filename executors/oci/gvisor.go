package oci

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/streams"
)

// gvisor is what gVisor's runtime calls itself. It runs each container on a kernel of its own, a
// process of the node that joins the namespaces of the specification. So
//
//   - the pod's addresses and ports stay those of its network namespace, for all its containers
//     and for port-forwards, only with the node's network stack: gVisor's own would take the
//     addresses out of the namespace;
//   - processes and System V IPC of two containers never meet;
//   - the host name is in the specification alone;
//   - the monitor's child is the kernel, or for a command a process that waits: whoever kills
//     that leaves the command behind.
const gvisor = "runsc"

// OwnKernel reports whether each container has a kernel of its own, and so shares neither processes
// nor System V IPC nor users with anybody.
func (d *Driver) OwnKernel() bool { return d.version.Name == gvisor }

// flagGoferNetwork says where the processes that serve files to gVisor's kernels are. By default
// they share a network namespace, which stays mounted in the state directory for ever.
const flagGoferNetwork = "gofer-network-namespace"

// gvisorFlags are those of all commands. Without --oci-seccomp the container's seccomp profile
// would be ignored.
func gvisorFlags(f *features.Features) []string {
	flags := []string{"--network=host", "--oci-seccomp"}
	if f != nil && slices.Contains(f.PotentiallyUnsafeConfigAnnotations, "dev.gvisor.flag."+flagGoferNetwork) {
		flags = append(flags, "--"+flagGoferNetwork+"=new")
	}
	return flags
}

// forOwnKernel returns the specification for a container with a kernel of its own. It refuses to
// join others' processes, which would be ignored.
func forOwnKernel(b Bundle) (*specs.Spec, error) {
	spec := *b.Spec
	own := spec.Linux != nil && slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
	if !own {
		return nil, fault.New(fault.Unsupported, "create container", b.ID,
			"linux.security_context.namespace_options.pid: gVisor runs each container on a kernel of its own, without others' processes")
	}
	spec.Hostname = b.Hostname
	return &spec, nil
}

// insideExec is a command to execute in a container with a kernel of its own.
type insideExec struct {
	driver    *Driver
	container Container
	request   monitor.ExecRequest
	client    streams.Stdio
	how       execution
	// pidFile gets the pid that the command has inside.
	pidFile string
}

// run executes the command. What the monitor kills, for its timeout or because the client is
// gone, is the process that waits for the command; so the command is killed, too.
func (x insideExec) run(ctx context.Context) (monitor.ExecResult, error) {
	x.request.Args = slices.Insert(x.request.Args, len(x.request.Args)-1, "--internal-pid-file", x.pidFile)
	ended, err := x.driver.execute(ctx, x.request, x.client, x.how)
	if failed, refused := errors.AsType[*monitor.RuntimeError](err); refused && strings.Contains(failed.Error(), "not started") {
		return ended, fault.New(fault.Precondition, "exec in container", x.container.ID, "gVisor executes nothing before the container is started")
	}
	if err != nil || ended.TimedOut {
		err = errors.Join(err, x.kill(context.WithoutCancel(ctx)))
	}
	return ended, err
}

// kill kills the command, and what it has started.
func (x insideExec) kill(ctx context.Context) error {
	pid, err := readPid(x.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was not started
	}
	if err != nil {
		return err
	}
	d, id := x.driver, x.container.ID
	// A command is the leader of a process group.
	args := append(d.globalArgs(""), "kill", "--pgid", strconv.Itoa(pid), id, strconv.Itoa(int(unix.SIGKILL)))
	_, err = d.run(ctx, "kill a command in container", id, args...)
	if err == nil || strings.Contains(err.Error(), "no such process") {
		return nil
	}
	if status, stateErr := d.status(ctx, id); stateErr != nil || status != "running" {
		return nil // it ended with the container
	}
	return err
}
