package executors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/podfiles"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/executors/volumes"
)

func (x *Executor) prepareRootfs(ctx context.Context, c container.Spec) error {
	_, err := x.Store.Rootfses.Prepare(ctx, storage.RootfsRequest{ContainerID: string(c.ID), ImageID: c.Image})
	if errors.Is(err, storage.ErrImageNotFound) {
		return fault.New(fault.NotFound, "prepare root file system", string(c.ID), "config.image: %v", err)
	}
	return err
}

// createRuntime writes the bundle and has the runtime create the container. The
// root file system is asked for again: it is there, and after a crash it may have
// to be mounted anew.
func (x *Executor) createRuntime(ctx context.Context, c container.Spec) (container.Process, error) {
	var process container.Process
	config, pod := &runtimeapi.ContainerConfig{}, &runtimeapi.PodSandboxConfig{}
	if err := decode(c.Config, config); err != nil {
		return process, err
	}
	if err := decode(c.SandboxConfig, pod); err != nil {
		return process, err
	}
	runtime, err := x.runtime(c.Handler)
	if err != nil {
		return process, err
	}
	followPod(config, pod)
	logPath, err := resolveLog(c.LogPath, pod.GetLogDirectory())
	if err != nil {
		return process, err
	}
	rootfs, err := x.Store.Rootfses.Prepare(ctx, storage.RootfsRequest{ContainerID: string(c.ID), ImageID: c.Image})
	if err != nil {
		return process, err
	}
	images, err := x.imageMounts(ctx, c, config.GetMounts())
	if err != nil {
		return process, err
	}
	paths, err := x.containerNamespaces(ctx, c, config, pod)
	if err != nil {
		return process, err
	}
	cgroup, err := x.Cgroups.ContainerPath(pod.GetLinux().GetCgroupParent(), string(c.Sandbox), string(c.ID))
	if err != nil {
		return process, err
	}
	in := spec.Input{
		SandboxID: string(c.Sandbox), ContainerID: string(c.ID),
		Sandbox: pod, Container: config,
		Image: rootfs.Config, ImageName: config.GetImage().GetImage(),
		ImageMounts: images,
		Rootfs:      rootfs.Mountpoint, VolumesDir: x.volumesDir(c.ID),
		Namespaces: paths, Files: x.podFiles(c, pod),
		CgroupsPath: cgroup, Host: x.Host, Features: runtime.Features(),
		Options: spec.Options{OwnDirs: []string{x.RootDir, x.StateDir}},
	}
	questions, err := spec.Ask(in)
	if err != nil {
		return process, err
	}
	plan, err := spec.Container(in, facts.Answer(questions))
	if err != nil {
		return process, err
	}
	if err := volumes.Make(plan.Steps); err != nil {
		return process, err
	}
	made, err := runtime.Create(ctx, oci.Bundle{
		ID: string(c.ID), Dir: x.bundleDir(c.ID), Spec: plan.Spec,
		LogPath: logPath, MaxLogSize: x.MaxLogSize,
		Stdin: config.GetStdin(), StdinOnce: config.GetStdinOnce(), Terminal: config.GetTty(),
	})
	if err != nil {
		return process, err
	}
	return container.Process{PID: made.PID, StartTime: made.StartTime, Inode: made.Inode}, nil
}

// followPod gives a container its pod's namespaces: the network and IPC always,
// which the CRI has containers share with their sandbox, and all of them if the
// container says nothing, as callers other than the kubelet do.
func followPod(config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) {
	if config.GetLinux() == nil {
		config.Linux = &runtimeapi.LinuxContainerConfig{}
	}
	if config.GetLinux().GetSecurityContext() == nil {
		config.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{}
	}
	security, ofPod := config.GetLinux().GetSecurityContext(), pod.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if security.GetNamespaceOptions() == nil {
		security.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: ofPod.GetPid()}
	}
	security.NamespaceOptions.Network = ofPod.GetNetwork()
	security.NamespaceOptions.Ipc = ofPod.GetIpc()
}

// resolveLog returns the log's path without links in the directory that the
// kubelet named (on many nodes /var/log is one); below it the monitor follows
// none. It refuses a directory in which no log can be, while the answer can still
// say so; a missing one is the monitor's to make.
func resolveLog(path, directory string) (string, error) {
	if path == "" {
		return "", nil
	}
	refuse := func(reason any) error {
		return fault.New(fault.Invalid, "open the log of the container", "", "log_path: %q: %v", path, reason)
	}
	below, err := filepath.Rel(directory, path)
	if err != nil {
		return "", refuse(err)
	}
	resolved, err := filepath.EvalSymlinks(directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		resolved = directory
	case err != nil:
		return "", refuse(err)
	}
	path = filepath.Join(resolved, below)
	info, err := os.Stat(filepath.Dir(path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", refuse(err)
	case !info.IsDir():
		return "", refuse("its directory is a file")
	}
	return path, nil
}

// containerNamespaces names the namespaces that a container joins: its pod's, and
// for its processes the pod's holder or the container that it targets.
func (x *Executor) containerNamespaces(ctx context.Context, c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (spec.Namespaces, error) {
	hostNetwork := pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
	paths := x.namespacePaths(sandbox.Pod{ID: c.Sandbox, HostNetwork: hostNetwork}, pod)
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	var of string
	switch options.GetPid() {
	case runtimeapi.NamespaceMode_POD:
		if pod.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid() != runtimeapi.NamespaceMode_POD {
			return paths, fault.New(fault.Invalid, "create container", string(c.ID),
				"linux.security_context.namespace_options.pid: the container wants the pod's PID namespace, but the pod does not share one")
		}
		of = string(c.Sandbox)
	case runtimeapi.NamespaceMode_TARGET:
		of = options.GetTargetId()
	case runtimeapi.NamespaceMode_CONTAINER, runtimeapi.NamespaceMode_NODE:
		return paths, nil
	}
	all, err := x.Monitor.List(ctx)
	if err != nil {
		return paths, err
	}
	for _, m := range all {
		if m.ID == of && m.Exit == nil {
			paths.PID = fmt.Sprintf("/proc/%d/ns/pid", m.Process.PID)
			return paths, nil
		}
	}
	return paths, fault.New(fault.Precondition, "create container", string(c.ID),
		"linux.security_context.namespace_options: the process whose PID namespace is to be joined, %s, is not running", of)
}

func (x *Executor) podFiles(c container.Spec, pod *runtimeapi.PodSandboxConfig) spec.Files {
	files := spec.Files(podfiles.In(x.sandboxDir(c.Sandbox)))
	if ipcOfNode(pod) {
		files.Shm = ""
	}
	return files
}

// ociContainer names a container to its runtime.
func (x *Executor) ociContainer(c container.Spec) oci.Container {
	return oci.Container{ID: string(c.ID), Bundle: x.bundleDir(c.ID)}
}

// startRuntime returns when the program was started, at the latest. A start that was
// carried out before, by a daemon that died then, is not known better than by when it
// was asked for.
func (x *Executor) startRuntime(ctx context.Context, f container.StartRuntime) (time.Time, error) {
	// The time before: a program may have ended when the runtime returns.
	at := now()
	runtime, err := x.runtime(f.Spec.Handler)
	if err != nil {
		return at, err
	}
	already, err := runtime.Start(ctx, x.ociContainer(f.Spec))
	if already && !f.Asked.IsZero() {
		at = f.Asked
	}
	return at, err
}

func (x *Executor) signalStop(ctx context.Context, c container.Spec, name string) error {
	sig, err := parseSignal(name)
	if err != nil {
		return err
	}
	runtime, err := x.runtime(c.Handler)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.ociContainer(c), sig, false)
}

// parseSignal reads a signal as the CRI ("SIGTERM", "SIGRTMIN+3") or an image
// ("TERM", "15") names it.
func parseSignal(name string) (unix.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > 64 {
			return 0, fault.New(fault.Invalid, "parse the stop signal", name, "it is not between 1 and 64")
		}
		return unix.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if sig := unix.SignalNum(upper); sig != 0 {
		return sig, nil
	}
	// The other names that three signals have, in the CRI's enumeration too.
	switch upper {
	case "SIGIOT":
		return unix.SIGIOT, nil
	case "SIGCLD":
		return unix.SIGCLD, nil
	case "SIGPOLL":
		return unix.SIGPOLL, nil
	}
	if sig, ok := realtimeSignal(upper); ok {
		return sig, nil
	}
	return 0, fault.New(fault.Invalid, "parse the stop signal", name, "there is no such signal")
}

// realtimeSignal reads SIGRTMIN+N and SIGRTMAX-N, as the C library counts them;
// the CRI's enumeration writes SIGRTMINPLUSN and SIGRTMAXMINUSN.
func realtimeSignal(name string) (unix.Signal, bool) {
	const first, last = 34, 64
	name = strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(name)
	for _, end := range []struct {
		name string
		at   int
	}{{"SIGRTMIN", first}, {"SIGRTMAX", last}} {
		offset, ok := strings.CutPrefix(name, end.name)
		if !ok {
			continue
		}
		n := 0
		if offset != "" {
			var err error
			if n, err = strconv.Atoi(offset); err != nil || offset[0] != '+' && offset[0] != '-' {
				return 0, false
			}
		}
		sig := end.at + n
		return unix.Signal(sig), sig >= first && sig <= last
	}
	return 0, false
}

func (x *Executor) kill(ctx context.Context, c container.Spec) error {
	runtime, err := x.runtime(c.Handler)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.ociContainer(c), unix.SIGKILL, true)
}

// deleteRuntime also tells how the container ended: the monitor's own word of it may
// come when the container's history is over.
func (x *Executor) deleteRuntime(ctx context.Context, c container.Spec) container.DeleteRuntimeDone {
	ended, err := x.deleteAndForget(ctx, c)
	done := container.DeleteRuntimeDone{Err: err, At: now()}
	if ended != nil {
		done.Exited, done.Exit = true, ExitOf(*ended)
	}
	return done
}

func (x *Executor) deleteAndForget(ctx context.Context, c container.Spec) (*monitor.Exit, error) {
	runtime, err := x.runtime(c.Handler)
	if err != nil {
		return nil, err
	}
	if err := runtime.Delete(ctx, x.ociContainer(c)); err != nil {
		return nil, err
	}
	return x.Monitor.ForgetEnded(ctx, string(c.ID))
}

// ExitOf is what the monitor saw, as the container's machine has it.
func ExitOf(e monitor.Exit) container.Exit {
	if e.Unknown != "" {
		unknown := container.Unknown(e.Unknown, e.Time.UTC())
		unknown.Note = e.Note
		return unknown
	}
	return container.Exit{Code: e.Code, Signal: e.Signal, OOMKilled: e.OOMKilled, At: e.Time.UTC(), Note: e.Note}
}

func (x *Executor) releaseRootfs(ctx context.Context, c container.Spec) error {
	if err := x.Store.Rootfses.Release(ctx, string(c.ID)); err != nil {
		return err
	}
	for _, dir := range []string{x.bundleDir(c.ID), x.volumesDir(c.ID)} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the container's directory: %w", err)
		}
	}
	return nil
}

// CollectContainers removes, at the start of a boot, what the disk has of containers that
// nobody knows, and says of which: their root file systems (see storage.Rootfses.Collect)
// and what they wrote to the volumes of their images.
func (x *Executor) CollectContainers(ctx context.Context, known func(id string) bool) (removed []string, err error) {
	removed, err = x.Store.Rootfses.Collect(ctx, known)
	volumes, listErr := os.ReadDir(x.volumesDir(""))
	if errors.Is(listErr, fs.ErrNotExist) {
		return removed, err
	}
	err = errors.Join(err, listErr)
	for _, dir := range volumes {
		const idLength = 64
		if len(dir.Name()) != idLength || known(dir.Name()) {
			continue // somebody else's: it may be a file system of its own, with its lost+found
		}
		if rmErr := os.RemoveAll(x.volumesDir(id.Container(dir.Name()))); rmErr != nil {
			err = errors.Join(err, fmt.Errorf("remove the volumes of a container that is gone: %w", rmErr))
			continue
		}
		removed = append(removed, dir.Name())
	}
	slices.Sort(removed)
	return slices.Compact(removed), err
}

// execute runs a command for a caller that still waits. A command whose caller
// is gone, or asked another daemon, is not run: running it twice could do harm.
func (x *Executor) execute(ctx context.Context, f container.Execute) container.ExecuteDone {
	done := container.ExecuteDone{Exec: f.Exec}
	caller, waits := x.Execs.caller(f.Exec)
	if !waits {
		done.Err = fault.New(fault.Interrupted, "exec in container", string(f.Spec.ID), "nobody waits for the command any more")
		return done
	}
	runtime, err := x.runtime(f.Spec.Handler)
	if err != nil {
		done.Err = err
		return done
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(caller, cancel)()
	result, err := runtime.ExecSync(ctx, x.ociContainer(f.Spec), oci.Exec{
		ID: string(f.Exec), Cmd: f.Command, Timeout: f.Timeout,
	})
	if err != nil {
		done.Err = err
		return done
	}
	x.Execs.deliver(f.Exec, result.Stdout, result.Stderr)
	done.Code, done.TimedOut = result.ExitCode, result.TimedOut
	return done
}
