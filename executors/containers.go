package executors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/executors/apparmor"
	"github.com/stele-runtime/stele/executors/cdi"
	"github.com/stele-runtime/stele/executors/facts"
	"github.com/stele-runtime/stele/executors/hooks"
	"github.com/stele-runtime/stele/executors/images"
	"github.com/stele-runtime/stele/executors/monitor"
	"github.com/stele-runtime/stele/executors/namespaces"
	"github.com/stele-runtime/stele/executors/nri"
	"github.com/stele-runtime/stele/executors/oci"
	"github.com/stele-runtime/stele/executors/podfiles"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
	"github.com/stele-runtime/stele/executors/spec/userns"
	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/executors/volumes"
)

// containers carry out the effects on containers.
type containers struct{ *Config }

// prepareRootfs first asks the signature policy of the pod's namespace, which need not be
// the namespace for which the image was pulled.
func (x containers) prepareRootfs(ctx context.Context, c container.Spec) error {
	config, pod, err := effective(c)
	if err != nil {
		return err
	}
	x.Cgroups.Warm() // for the runtime, which comes next
	err = x.Images().Permit(ctx, images.Use{
		Namespace: pod.GetMetadata().GetNamespace(), Image: c.Image, Written: config.GetImage().GetUserSpecifiedImage(),
	})
	if err != nil && !errors.Is(err, storage.ErrImageNotFound) {
		return fault.New(fault.KindOf(err), "prepare root file system", string(c.ID), "config.image: %v", err)
	}
	request := x.rootfsRequest(c, config, pod)
	if err := checkLabel("prepare root file system", string(c.ID), request.MountLabel); err != nil {
		return err
	}
	_, err = x.Store.Rootfses.Prepare(ctx, request)
	switch {
	case errors.Is(err, storage.ErrImageNotFound):
		return fault.New(fault.NotFound, "prepare root file system", string(c.ID), "config.image: %v", err)
	case errors.Is(err, storage.ErrNoIDMaps):
		return fault.New(fault.Unsupported, "prepare root file system", string(c.ID), "linux.security_context.namespace_options.userns_options: %v", err)
	}
	return err
}

// checkLabel refuses a label for files before it becomes an option of mounts, whose errors say
// nothing of it.
func checkLabel(action, object, label string) error {
	if err := facts.CheckLabel(label); err != nil {
		return fault.New(fault.Invalid, action, object, "linux.security_context.selinux_options can't be used: %v", err)
	}
	return nil
}

// rootfsRequest asks for a container's root file system, with the ids of its pod's users and its label.
func (x containers) rootfsRequest(c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) storage.RootfsRequest {
	return storage.RootfsRequest{
		ContainerID: string(c.ID), ImageID: c.Image, Users: idMaps(pod), MountLabel: spec.MountLabel(x.Host, config, pod),
	}
}

// idMaps are the mappings of a pod's user namespace in the image store's form.
func idMaps(pod *runtimeapi.PodSandboxConfig) storage.IDMaps {
	if users := userns.Of(pod); users != nil {
		return storage.IDMaps(*users)
	}
	return storage.IDMaps{}
}

// create writes the bundle and has the runtime create the container. The root file
// system is prepared again: after a crash it may have to be mounted again.
func (x containers) create(ctx context.Context, c container.Spec) container.CreateRuntimeDone {
	config, pod, err := effective(c)
	if err != nil {
		return container.CreateRuntimeDone{Err: err}
	}
	made, err := x.createFrom(ctx, c, config, pod)
	if err != nil {
		return container.CreateRuntimeDone{Err: err}
	}
	resources, err := encodeResources(made.adjustment.Resources)
	if err != nil {
		return container.CreateRuntimeDone{Err: err}
	}
	as := made.spec.Process.User
	return container.CreateRuntimeDone{
		Adjustment: container.Adjustment{Plugins: made.adjustment.Plugins, JSON: made.adjustment.JSON, Resources: resources},
		Process:    container.Process{PID: made.process.PID, StartTime: made.process.StartTime, Inode: made.process.Inode},
		User:       container.User{UID: as.UID, GID: as.GID, Groups: as.AdditionalGids},
		SharedPIDs: !ownPIDs(made.spec),
	}
}

// reachableRoot returns where the runtime reaches a root file system.
func (x containers) reachableRoot(c id.Container, mountpoint string, pod *runtimeapi.PodSandboxConfig) (string, error) {
	users := userns.Of(pod)
	if users == nil {
		return mountpoint, nil
	}
	uid, gid := users.Root()
	place := x.place(string(c))
	return place.Root(), place.Show(mountpoint, uid, gid)
}

// options are the administrator's for a handler, completed by what its runtime says.
func (c *Config) options(handler *Handler, runtime *oci.Driver) spec.Options {
	options := handler.Options
	options.MinMemory = max(options.MinMemory, runtime.MinMemory())
	options.OwnDirs = []string{c.RootDir, c.StateDir}
	return options
}

// created is what create made: a process, as a specification says.
type created struct {
	process    monitor.Process
	spec       *specs.Spec
	adjustment nri.Adjustment
}

// ownPIDs reports whether a container gets a PID namespace of its own.
func ownPIDs(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.PIDNamespace && n.Path == ""
	})
}

func (x containers) createFrom(ctx context.Context, c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (made created, err error) {
	handler, err := x.Handlers.Find(c.Handler)
	if err != nil {
		return made, err
	}
	logPath, err := podfiles.LogPath(c.LogPath, pod.GetLogDirectory())
	if err != nil {
		return made, err
	}
	rootfs, err := x.Store.Rootfses.Prepare(ctx, x.rootfsRequest(c, config, pod))
	if err != nil {
		return made, err
	}
	runtime, err := x.chooseRuntime(c, handler, rootfs.Config)
	if err != nil {
		return made, err
	}
	if rootfs.Mountpoint, err = x.reachableRoot(c.ID, rootfs.Mountpoint, pod); err != nil {
		return made, err
	}
	mounts, err := x.imageMounts(ctx, c, config, pod)
	if err != nil {
		return made, err
	}
	paths, err := x.namespaces(ctx, c, config, pod)
	if err != nil {
		return made, err
	}
	cgroup, err := x.Cgroups.ContainerPath(pod.GetLinux().GetCgroupParent(), string(c.Sandbox), string(c.ID))
	if err != nil {
		return made, err
	}
	options := x.options(handler, runtime)
	profile, err := x.seccompArtifact(ctx, c, config, pod, options.Annotations)
	if err != nil {
		return made, err
	}
	in := spec.Input{
		SandboxID: string(c.Sandbox), ContainerID: string(c.ID),
		Sandbox: pod, Container: config,
		Image: rootfs.Config, ImageName: config.GetImage().GetImage(),
		ImageMounts: mounts,
		Rootfs:      rootfs.Mountpoint, VolumesDir: x.volumesOf(c.ID),
		Namespaces: paths, Files: x.podFiles(c, pod),
		CgroupsPath: cgroup, Host: x.Host, Features: runtime.Features(),
		Options: options, Seccomp: profile,
	}
	ready, err := x.ready(ctx, c, in, runtime)
	if err != nil {
		return made, err
	}
	process, err := runtime.Create(ctx, oci.Bundle{
		ID: string(c.ID), Dir: x.bundleDir(c.ID), Spec: ready.spec, Hostname: pod.GetHostname(),
		LogPath: logPath, MaxLogSize: x.MaxLogSize,
		Deadline: handler.CreateTimeout, Notifier: ready.notifier,
		Stdin: config.GetStdin(), StdinOnce: config.GetStdinOnce(), Terminal: config.GetTty(),
	})
	if err != nil {
		return made, blamed(unmappable(err, c, config.GetMounts(), paths.User), c, ready.adjustment)
	}
	x.NRI.PostCreateContainer(ctx, string(c.ID), x.nriFacts(c, func(facts *nri.Container) { facts.Spec, facts.PID = ready.spec, process.PID }))
	return created{process, ready.spec, ready.adjustment}, nil
}

// ready is what a runtime creates a container from.
type ready struct {
	spec       *specs.Spec
	adjustment nri.Adjustment
	notifier   *monitor.Notifier
}

// ready plans a container, lets NRI plug-ins change it, and makes what it takes.
func (x containers) ready(ctx context.Context, c container.Spec, in spec.Input, runtime *oci.Driver) (r ready, err error) {
	plan, err := x.plan(in)
	if err != nil {
		return r, err
	}
	r.spec = plan.Spec
	if r.adjustment, err = x.adjust(ctx, c, in.Options.MinMemory, r.spec); err != nil {
		return r, err
	}
	notice := confine.AskedNotice(in.Sandbox, in.Options.Annotations)
	if r.notifier, err = x.notifier(c.ID, notice, r.spec.Linux.Seccomp, runtime); err != nil {
		return r, err
	}
	return r, volumes.Make(plan.Steps)
}

// plan plans a container, with the devices and the hooks that others describe.
func (x containers) plan(in spec.Input) (spec.Plan, error) {
	questions, err := spec.Ask(in)
	if err != nil {
		return spec.Plan{}, err
	}
	plan, err := spec.Container(in, facts.Answer(questions))
	if err != nil {
		return plan, err
	}
	var names []string
	for _, device := range in.Container.GetCDIDevices() {
		names = append(names, device.GetName())
	}
	// Only the request's own annotations: those of images, and of pods, reach nothing.
	devices, err := cdi.Asked(names, in.Container.GetAnnotations())
	if err != nil {
		return plan, err
	}
	if err := x.CDI.Inject(plan.Spec, devices); err != nil {
		return plan, err
	}
	if err := x.addHooks(plan.Spec, in.Container, in.Sandbox); err != nil {
		return plan, fault.New(fault.Precondition, "create container", in.ContainerID, "%v", err)
	}
	return plan, nil
}

// addHooks adds the hooks that match a container. Of an annotation that the pod has, too, the
// pod's value counts, and any mount for a bind mount, as with CRI-O.
func (x containers) addHooks(to *specs.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) error {
	annotations := map[string]string{}
	maps.Copy(annotations, config.GetAnnotations())
	maps.Copy(annotations, pod.GetAnnotations())
	return x.Hooks.Add(to, hooks.Container{Annotations: annotations, HasBindMounts: len(config.GetMounts()) > 0})
}

// namespaces names the namespaces that a container joins: its pod's, and
// for its processes the pod's holder or the container that it targets.
func (x containers) namespaces(ctx context.Context, c container.Spec, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (spec.Namespaces, error) {
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
	paths.PID = x.joinedPID(c.ID)
	return paths, x.pinPID(ctx, c.ID, of)
}

// pinPID pins, for a container, the PID namespace of the holder or container of: as long
// as the container is there, commands in it join that, too.
func (x containers) pinPID(ctx context.Context, c id.Container, of string) error {
	owner, err := x.Monitor.Container(ctx, of)
	if err != nil && !errors.Is(err, monitor.ErrNotFound) {
		return err
	}
	pidfd := -1
	if err == nil && owner.Exit == nil {
		pidfd, err = owner.Process.Open()
	}
	if err != nil || owner.Exit != nil {
		return fault.New(fault.Precondition, "create container", string(c),
			"linux.security_context.namespace_options: the process whose PID namespace is to be joined, %s, is not running", of)
	}
	defer func() { _ = unix.Close(pidfd) }()
	if err := os.MkdirAll(x.bundleDir(c), 0o700); err != nil {
		return fmt.Errorf("make the container's directory: %w", err)
	}
	return namespaces.PinPID(x.joinedPID(c), owner.Process.PID, pidfd)
}

func (x containers) podFiles(c container.Spec, pod *runtimeapi.PodSandboxConfig) spec.Files {
	files := spec.Files(podfiles.Find(x.sandboxDir(c.Sandbox)))
	if ipcOfNode(pod) {
		files.Shm = ""
	}
	return files
}

// named names a container to its runtime.
func (x containers) named(c container.Spec) oci.Container {
	return oci.Container{ID: string(c.ID), Bundle: x.bundleDir(c.ID)}
}

// doomed names a container to its runtime, with what its end takes if somebody has
// removed the state directory under it.
func (x containers) doomed(c container.Spec) oci.Container {
	named := x.named(c)
	named.Init = monitor.Process{PID: c.Init.PID, StartTime: c.Init.StartTime, Inode: c.Init.Inode}
	named.CgroupsPath = x.cgroupsPath(c.SandboxConfig, string(c.Sandbox), string(c.ID))
	return named
}

// cgroupsPath returns where the cgroup of a container or holder is; empty if what is
// known of its pod does not say.
func (c *Config) cgroupsPath(pod []byte, sandbox, id string) string {
	config := &runtimeapi.PodSandboxConfig{}
	if err := decode(pod, config); err != nil {
		return ""
	}
	path, err := c.Cgroups.ContainerPath(config.GetLinux().GetCgroupParent(), sandbox, id)
	if err != nil {
		return ""
	}
	return path
}

// effective returns the configurations that are in force.
func effective(c container.Spec) (*runtimeapi.ContainerConfig, *runtimeapi.PodSandboxConfig, error) {
	return spec.Effective(spec.Configuration{Container: c.Config, Resources: c.Resources, Sandbox: c.SandboxConfig})
}

// update changes a container's limits, and returns all that are in force then.
func (x containers) update(ctx context.Context, f container.UpdateRuntime) ([]byte, error) {
	config, _, err := effective(f.Spec)
	if err != nil {
		return nil, err
	}
	change := &runtimeapi.UpdateContainerResourcesRequest{}
	if err := decode(f.Change, change); err != nil {
		return nil, err
	}
	handler, err := x.Handlers.Find(f.Spec.Handler)
	if err != nil {
		return nil, err
	}
	runtime, err := x.runtimeOf(f.Spec)
	if err != nil {
		return nil, err
	}
	least := x.options(handler, runtime).MinMemory
	if !f.ByPlugin {
		// Plug-ins are asked about what can be, and no more.
		if _, err := spec.Update(config, change, x.Host, least); err != nil {
			return nil, err
		}
		change.Linux, err = x.NRI.UpdateContainer(ctx, string(f.Spec.ID), change.GetLinux(), x.nriFacts(f.Spec, nil))
		if err != nil {
			return nil, err
		}
	}
	plan, err := spec.Update(config, change, x.Host, least)
	if err != nil {
		return nil, err
	}
	err = runtime.Update(ctx, x.doomed(f.Spec), oci.Update{
		Set: plan.Set, OOMScoreAdj: plan.OOMScoreAdj, MemoryLimit: plan.MemoryLimit, Fields: plan.Fields,
	})
	if err != nil {
		return nil, err
	}
	if !f.ByPlugin {
		x.NRI.PostUpdateContainer(ctx, string(f.Spec.ID), x.nriFacts(f.Spec, nil))
	}
	return proto.Marshal(plan.InForce)
}

// start returns when the program ran, or when the start failed. For a start that an
// earlier daemon carried out, it returns when that was requested.
func (x containers) start(ctx context.Context, f container.StartRuntime) (time.Time, error) {
	runtime, err := x.runtimeOf(f.Spec)
	if err != nil {
		return now(), err
	}
	if err := x.NRI.StartContainer(ctx, string(f.Spec.ID), x.nriFacts(f.Spec, nil)); err != nil {
		return now(), err
	}
	started, err := runtime.Start(ctx, x.named(f.Spec))
	at := now()
	switch {
	case err != nil:
		return at, err
	case !started.Before:
		at = started.At.UTC()
	case !f.Asked.IsZero():
		at = f.Asked
	}
	x.NRI.PostStartContainer(ctx, string(f.Spec.ID), x.nriFacts(f.Spec, startedAt(at)))
	return at, nil
}

func (x containers) signal(ctx context.Context, c container.Spec, name string) error {
	sig, err := oci.ParseSignal(name)
	if err != nil {
		return err
	}
	runtime, err := x.runtimeOf(c)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.doomed(c), sig, false)
}

func (x containers) kill(ctx context.Context, c container.Spec) error {
	runtime, err := x.runtimeOf(c)
	if err != nil {
		return err
	}
	return runtime.Kill(ctx, x.doomed(c), unix.SIGKILL, true)
}

// delete also returns how the container ended: the monitor's own report may arrive
// after the container's last event.
func (x containers) delete(ctx context.Context, c container.Spec) container.DeleteRuntimeDone {
	ended, err := x.deleteAndForget(ctx, c)
	done := container.DeleteRuntimeDone{Err: err, At: now()}
	if ended != nil {
		done.Exited, done.Exit = true, ExitOf(*ended)
	}
	return done
}

func (x containers) deleteAndForget(ctx context.Context, c container.Spec) (*monitor.Exit, error) {
	runtime, err := x.runtimeOf(c)
	if err != nil {
		return nil, err
	}
	// First, since a kubelet may be about to look.
	if c.LogUnused {
		x.removeEmptyLog(c)
	}
	if err := runtime.Delete(ctx, x.doomed(c)); err != nil {
		return nil, err
	}
	ended, err := x.Monitor.ForgetEnded(ctx, string(c.ID))
	if err != nil {
		return nil, err
	}
	x.NRI.RemoveContainer(ctx, string(c.ID), x.nriFacts(c, endedAs(ended)))
	return ended, nil
}

// removeEmptyLog removes the log of a program that never ran: where the kubelet finds no
// container, it counts the attempts by the logs that are there.
func (x containers) removeEmptyLog(c container.Spec) {
	pod := &runtimeapi.PodSandboxConfig{}
	err := decode(c.SandboxConfig, pod)
	if err == nil {
		err = podfiles.RemoveEmptyLog(c.LogPath, pod.GetLogDirectory())
	}
	if err != nil {
		x.Logger.Warn("the empty log of a container that never ran is left", "container", string(c.ID), "error", err)
	}
}

// ExitOf translates the monitor's exit to the container's machine.
func ExitOf(e monitor.Exit) container.Exit {
	if e.Unknown != "" {
		unknown := container.Unknown(e.Unknown, e.Time.UTC())
		unknown.Note, unknown.MemoryPeak, unknown.MemoryLimit = e.Note, e.MemoryPeak, e.MemoryLimit
		return unknown
	}
	return container.Exit{
		Code: e.Code, Signal: e.Signal, OOMKilled: e.OOMKilled, At: e.Time.UTC(), Note: e.Note,
		MemoryPeak: e.MemoryPeak, MemoryLimit: e.MemoryLimit,
	}
}

func (x containers) releaseRootfs(ctx context.Context, c container.Spec) error {
	if err := x.place(string(c.ID)).Remove(); err != nil {
		return err
	}
	if err := x.Store.Rootfses.Release(ctx, string(c.ID)); err != nil {
		return err
	}
	if err := namespaces.UnpinPID(x.joinedPID(c.ID)); err != nil {
		return err
	}
	for _, dir := range []string{x.bundleDir(c.ID), x.volumesOf(c.ID)} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the container's directory: %w", err)
		}
	}
	return nil
}

// execute runs a command for a caller that still waits. A command whose caller is
// gone, or was another daemon's, is not run: running it twice could do harm.
func (x containers) execute(ctx context.Context, f container.Execute) container.ExecuteDone {
	done := container.ExecuteDone{Exec: f.Exec}
	caller, waits := x.Execs.Caller(f.Exec)
	if !waits {
		done.Err = fault.New(fault.Interrupted, execIn, string(f.Spec.ID), callerIsGone)
		return done
	}
	runtime, err := x.runtimeOf(f.Spec)
	if err != nil {
		done.Err = err
		return done
	}
	if err := x.loadAppArmor(f.Spec.Handler); err != nil {
		done.Err = err
		return done
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(caller.Context, cancel)()
	x.Cgroups.Warm()
	result, err := runtime.Exec(ctx, x.named(f.Spec), oci.Exec{
		ID: string(f.Exec), Cmd: f.Command, Timeout: f.Timeout, Stdio: caller.Stdio,
	})
	if err != nil && caller.Context.Err() != nil {
		err = interrupted(f.Spec, caller.Context, err)
	}
	done.Code, done.TimedOut, done.Err = result.ExitCode, result.TimedOut, err
	return done
}

const (
	execIn       = "exec in container"
	callerIsGone = "the command's caller is gone"
)

// interrupted says why the caller is gone of a command that err ended. What else err says, such as
// that the command cannot be killed, follows.
func interrupted(c container.Spec, caller context.Context, err error) error {
	why := callerIsGone
	if cause := context.Cause(caller); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		why = cause.Error()
	}
	for line := range strings.SplitSeq(fault.From(err, execIn, string(c.ID)).Reason, "\n") {
		if !strings.HasSuffix(line, context.Canceled.Error()) {
			why += "; " + line
		}
	}
	return fault.New(fault.Interrupted, execIn, string(c.ID), "%s", why)
}

// loadAppArmor loads the profile of the handler's containers if somebody has unloaded it: a
// command could not run in it.
func (x containers) loadAppArmor(name string) error {
	handler, err := x.Handlers.Find(name)
	if err != nil || !x.Host.AppArmor || handler.Options.AppArmorProfile != confine.OwnAppArmorProfile {
		return err
	}
	return apparmor.Load(confine.OwnAppArmorProfile)
}
