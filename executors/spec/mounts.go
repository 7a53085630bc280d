package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
	"github.com/stele-runtime/stele/executors/spec/userns"
)

// planMounts lists what the container sees beside its root file system: the
// kernel's file systems, the pod's files, the volumes that the pod asks for and
// those that the image declares. In a conflict the pod's mount wins, then the
// default, then the image's volume.
func planMounts(r *request, plan *Plan) error {
	asked, err := planAskedMounts(r, plan)
	if err != nil {
		return err
	}
	defaults, err := r.defaultMounts()
	if err != nil {
		return err
	}
	defaults = slices.DeleteFunc(defaults, func(d specs.Mount) bool {
		return slices.ContainsFunc(asked, func(a specs.Mount) bool {
			return a.Destination == d.Destination || isKernelDir(a.Destination) && covers(a.Destination, d.Destination)
		})
	})
	copies, err := planDefaultMounts(r, plan, asked)
	if err != nil {
		return err
	}
	defaults = slices.Concat(defaults, copies, r.tmpfses(asked))
	if source := r.Files.ContainerEnv; source != "" && !coveredBy(asked, containerEnv) {
		defaults = append(defaults, bind(source, containerEnv, r.fileMode(), "rprivate", "nosuid", "nodev", "noexec"))
	}
	volumes, err := planVolumes(r, plan, slices.Concat(asked, defaults))
	if err != nil {
		return err
	}
	all := slices.Concat(defaults, volumes, asked)
	// What is mounted below something else comes after it.
	slices.SortStableFunc(all, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	plan.Spec.Mounts = all
	return nil
}

// defaultMounts are what every container has.
func (r *request) defaultMounts() ([]specs.Mount, error) {
	shm, err := r.shmMount()
	if err != nil {
		return nil, err
	}
	sys := "ro"
	if r.sec.Privileged {
		sys = "rw"
	}
	cgroup, err := r.cgroupMode(sys)
	if err != nil {
		return nil, err
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroup}},
		shm,
	}
	for _, file := range []struct{ dest, source string }{
		{"/etc/resolv.conf", r.Files.ResolvConf},
		{"/etc/hostname", r.Files.Hostname},
		{"/etc/hosts", r.Files.Hosts},
	} {
		if file.source != "" {
			mounts = append(mounts, bind(file.source, file.dest, r.fileMode(), "rprivate", "nosuid", "nodev", "noexec"))
		}
	}
	return mounts, nil
}

// tmpfses are what a container can write to beside a read-only root, and what init systems expect,
// with what the image has there if the runtime can copy it. They are those of CRI-O.
func (r *request) tmpfses(asked []specs.Mount) []specs.Mount {
	modes := map[string]string{}
	if r.Options.ReadOnly {
		modes["/run"], modes["/tmp"], modes["/var/tmp"] = "0755", "1777", "1777"
	}
	if isInit(r.args()) {
		modes["/run"], modes["/run/lock"], modes["/tmp"], modes["/var/log/journal"] = "0755", "1777", "1777", "0755"
	}
	var mounts []specs.Mount
	for _, dir := range slices.Sorted(maps.Keys(modes)) {
		if coveredBy(asked, dir) {
			continue
		}
		options := []string{"rprivate", "nosuid", "nodev", "noexec", "mode=" + modes[dir]}
		if r.hasMountOption(copyUp) {
			options = append(options, copyUp)
		}
		mounts = append(mounts, specs.Mount{Destination: dir, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return mounts
}

// copyUp is the option of runtimes by which a tmpfs begins with what the image has in its place.
const copyUp = "tmpcopyup"

// cgroupKeys are CRI-O's names, the present one first, of the annotation by which a pod manages its
// containers' cgroups itself.
func cgroupKeys() []string {
	return []string{"cgroup2-mount-hierarchy-rw.crio.io", "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw"}
}

// cgroupMode is that of /sys/fs/cgroup: writable, on cgroup v2, for init systems and for who asks
// for it by annotation. The container's cgroup namespace shows its own cgroup alone.
func (r *request) cgroupMode(otherwise string) (string, error) {
	field, text := r.Options.asked(r.Sandbox, cgroupKeys()...)
	switch {
	case text != "" && text != "true" && text != "false":
		return "", refusal.Invalid(field, text, "is neither true nor false")
	case text == "true" && !r.Host.CgroupV2:
		return "", refusal.Unsupported(field, text, "needs cgroup v2")
	case text == "true", isInit(r.args()) && r.Host.CgroupV2:
		return "rw", nil
	}
	return otherwise, nil
}

// containerEnv is where podman and CRI-O have a file by which programs know that they are in a
// container.
const containerEnv = "/run/.containerenv"

// fileMode is that of the pod's files: with a read-only root they are, too.
func (r *request) fileMode() string {
	if r.readonlyRoot() {
		return "ro"
	}
	return "rw"
}

// planEtc has made in the root file system what the image lacks and the pod does not bring. It comes
// before the volumes: one may have a copy of /etc.
func planEtc(r *request, plan *Plan) error {
	uid, gid := r.users.Root()
	if r.found.NoMtab {
		plan.Steps = append(plan.Steps, MakeMtab{Rootfs: r.Rootfs, UID: uid, GID: gid})
	}
	brings := slices.ContainsFunc(r.Container.Mounts, func(m *cri.Mount) bool { return covers(path.Clean(m.ContainerPath), "/etc/localtime") })
	if zone := r.Options.Timezone; zone != "" && !brings {
		plan.Steps = append(plan.Steps, SetTimezone{Rootfs: r.Rootfs, Zone: zone, UID: uid, GID: gid})
	}
	return nil
}

// shmMount shares /dev/shm with those that share the IPC namespace.
func (r *request) shmMount() (specs.Mount, error) {
	source := r.Files.Shm
	switch r.ipcMode() {
	case cri.NamespaceMode_NODE:
		source = "/dev/shm"
	case cri.NamespaceMode_CONTAINER:
		source = ""
	}
	if source == "" {
		size, err := r.Options.SizeOfShm(r.Sandbox)
		return specs.Mount{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)},
		}, err
	}
	return bind(source, "/dev/shm", "rw", "rprivate", "nosuid", "noexec", "nodev"), nil
}

func bind(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)}
}

// planAskedMounts plans the mounts that the CRI lists. Of two at the same place, which
// Kubernetes allows if one path ends in a slash, the later one counts.
func planAskedMounts(r *request, plan *Plan) ([]specs.Mount, error) {
	var out []specs.Mount
	last := map[string]int{}
	for i, m := range r.Container.Mounts {
		last[path.Clean(m.ContainerPath)] = i
	}
	for i, m := range r.Container.Mounts {
		if last[path.Clean(m.ContainerPath)] != i {
			continue
		}
		field := fmt.Sprintf("mounts[%d]", i)
		if m.Image.GetImage() != "" {
			source := r.ImageMounts[i]
			if source == "" {
				return nil, refusal.Unsupported(field+".image", m.Image.Image, "is not mounted on the node")
			}
			if !r.users.Same(m.UidMappings, m.GidMappings) {
				return nil, refusal.Unsupported(field+".uidMappings", nil, "are not the pod's: an image is mounted with the ids of the pod's users")
			}
			out = append(out, imageMount(source, m))
			continue
		}
		mount, err := planMount(r, plan, field, m)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	return out, nil
}

// imageMount is a mount of an image, which was made read-only on the node. The
// options are repeated: the runtime remounts with exactly the ones that it is
// given.
func imageMount(source string, m *cri.Mount) specs.Mount {
	options := []string{"rprivate", "ro", "nosuid", "nodev"}
	for _, o := range m.MountOptions {
		if !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	return bind(source, path.Clean(m.ContainerPath), options...)
}

func planMount(r *request, plan *Plan, field string, m *cri.Mount) (specs.Mount, error) {
	source, err := planHostPath(r, plan, field+".host_path", path.Clean(m.HostPath))
	if err != nil {
		return specs.Mount{}, err
	}
	propagation, err := planPropagation(r, plan, field+".propagation", m)
	if err != nil {
		return specs.Mount{}, err
	}
	mode := "rw"
	switch {
	case m.RecursiveReadOnly:
		if !r.hasMountOption("rro") || !r.Host.RecursiveReadOnly {
			return specs.Mount{}, refusal.Unsupported(field+".recursive_read_only", nil, "needs Linux 5.12 and a runtime that knows the mount option rro")
		}
		mode = "rro"
	case m.Readonly:
		mode = "ro"
	}
	if m.SelinuxRelabel {
		if err := planRelabel(r, plan, field, source); err != nil {
			return specs.Mount{}, err
		}
	}
	mount := bind(source, path.Clean(m.ContainerPath), append([]string{propagation, mode}, m.MountOptions...)...)
	if len(m.UidMappings) > 0 {
		if !r.mapsMounts() {
			return specs.Mount{}, refusal.Unsupported(field+".uidMappings", nil, "needs a runtime that maps the ids of mounts (runc 1.2, crun 1.9)")
		}
		mount.UIDMappings, mount.GIDMappings = userns.Ranges(m.UidMappings), userns.Ranges(m.GidMappings)
	}
	return mount, nil
}

// planHostPath follows links, as the CRI says, and has a directory made where
// nothing is.
func planHostPath(r *request, plan *Plan, field, host string) (string, error) {
	found, asked := r.found.HostPaths[host]
	switch {
	case found.Err != nil:
		return "", refusal.Invalid(field, host, "can't be resolved: %v", found.Err)
	case !asked || !path.IsAbs(found.Path):
		return "", refusal.Unanswered(field)
	case found.Missing && slices.Contains(r.Options.AbsentMountSources, found.Path):
		return "", refusal.Invalid(field, host, "does not exist, and must not be made on this node")
	case found.Missing:
		plan.Steps = append(plan.Steps, MakeHostDir{Field: field, Path: found.Path})
	}
	return found.Path, nil
}

// planPropagation returns the mount option, and makes the container's whole tree
// receive or send mounts if that is asked for.
func planPropagation(r *request, plan *Plan, field string, m *cri.Mount) (string, error) {
	if m.Propagation == cri.MountPropagation_PROPAGATION_PRIVATE {
		return "rprivate", nil
	}
	host := r.found.HostPaths[path.Clean(m.HostPath)]
	on := host.Mount
	if on.Err != nil {
		return "", on.Err
	}
	if m.Propagation == cri.MountPropagation_PROPAGATION_BIDIRECTIONAL {
		if !on.Shared {
			return "", refusal.Invalid(field, m.Propagation, "can't be had: %s is on the mount %s, which is not shared", host.Path, on.Mountpoint)
		}
		plan.Spec.Linux.RootfsPropagation = "rshared"
		return "rshared", nil
	}
	if !on.Shared && !on.Slave {
		return "", refusal.Invalid(field, m.Propagation, "can't be had: %s is on the mount %s, which receives no mounts", host.Path, on.Mountpoint)
	}
	if plan.Spec.Linux.RootfsPropagation != "rshared" {
		plan.Spec.Linux.RootfsPropagation = "rslave"
	}
	return "rslave", nil
}

func (r *request) hasMountOption(option string) bool {
	return r.Features != nil && slices.Contains(r.Features.MountOptions, option)
}

// mapsMounts: the runtime says so, as OCI's features have it.
func (r *request) mapsMounts() bool { return MapsMounts(r.Features) }

// MapsMounts reports whether a runtime can map the ids of mounts, which volumes of pods with
// user namespaces need. One that does not say so may ignore the mappings in silence.
func MapsMounts(f *features.Features) bool {
	if f == nil || f.Linux == nil || f.Linux.MountExtensions == nil || f.Linux.MountExtensions.IDMap == nil {
		return false
	}
	enabled := f.Linux.MountExtensions.IDMap.Enabled
	return enabled != nil && *enabled
}

// depth counts the elements of a clean, absolute path.
func depth(p string) int {
	return strings.Count(strings.TrimSuffix(p, "/"), "/")
}
