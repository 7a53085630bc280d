package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mounts lists what the container sees beside its root file system: the
// kernel's file systems, the pod's files, the volumes that the pod asks for and
// those that the image declares. In a conflict the pod's wish comes first, then
// the defaults, then the image's.
func (b *builder) mounts() error {
	asked, err := b.askedMounts()
	if err != nil {
		return err
	}
	defaults := slices.DeleteFunc(b.defaultMounts(), func(d specs.Mount) bool {
		return slices.ContainsFunc(asked, func(a specs.Mount) bool {
			return a.Destination == d.Destination || isKernelDir(a.Destination) && covers(a.Destination, d.Destination)
		})
	})
	volumes, err := b.imageVolumes(slices.Concat(asked, defaults))
	if err != nil {
		return err
	}
	all := slices.Concat(defaults, volumes, asked)
	// What is mounted below something else comes after it.
	slices.SortStableFunc(all, func(a, b specs.Mount) int { return depth(a.Destination) - depth(b.Destination) })
	b.spec.Mounts = all
	return nil
}

// defaultMounts are what every container has.
func (b *builder) defaultMounts() []specs.Mount {
	sys := "ro"
	if b.sec.Privileged {
		sys = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", sys}},
		b.shmMount(),
	}
	mode := "rw"
	if b.sec.ReadonlyRootfs {
		mode = "ro"
	}
	for _, file := range []struct{ dest, source string }{
		{"/etc/resolv.conf", b.in.Files.ResolvConf},
		{"/etc/hostname", b.in.Files.Hostname},
		{"/etc/hosts", b.in.Files.Hosts},
	} {
		if file.source != "" {
			mounts = append(mounts, bind(file.source, file.dest, mode, "rprivate"))
		}
	}
	return mounts
}

// shmMount shares /dev/shm with whom the IPC namespace is shared with.
func (b *builder) shmMount() specs.Mount {
	source := b.in.Files.Shm
	switch b.ipcMode() {
	case cri.NamespaceMode_NODE:
		source = "/dev/shm"
	case cri.NamespaceMode_CONTAINER:
		source = ""
	}
	if source == "" {
		return specs.Mount{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", DefaultShmSize)},
		}
	}
	return bind(source, "/dev/shm", "rw", "rprivate", "nosuid", "noexec", "nodev")
}

func bind(source, dest string, options ...string) specs.Mount {
	return specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind"}, options...)}
}

// askedMounts are the CRI's.
func (b *builder) askedMounts() ([]specs.Mount, error) {
	var out []specs.Mount
	for i, m := range b.in.Container.Mounts {
		field := fmt.Sprintf("mounts[%d]", i)
		if m.Image.GetImage() != "" {
			source := b.in.ImageMounts[i]
			if source == "" {
				return nil, unsupported(field+".image", m.Image.Image, "is not mounted on the node")
			}
			out = append(out, imageMount(source, m))
			continue
		}
		mount, err := b.askedMount(field, m)
		if err != nil {
			return nil, err
		}
		out = append(out, mount)
	}
	return out, nil
}

// imageMount is a mount of an image, which was made read-only on the node. The
// options are named again: the runtime remounts with those that it is given alone.
func imageMount(source string, m *cri.Mount) specs.Mount {
	options := []string{"rprivate", "ro", "nosuid", "nodev", "noexec"}
	for _, o := range m.MountOptions {
		if !slices.Contains(options, o) {
			options = append(options, o)
		}
	}
	return bind(source, path.Clean(m.ContainerPath), options...)
}

func (b *builder) askedMount(field string, m *cri.Mount) (specs.Mount, error) {
	source, err := hostPath(field, m.HostPath)
	if err != nil {
		return specs.Mount{}, err
	}
	propagation, err := b.propagation(field, m, source)
	if err != nil {
		return specs.Mount{}, err
	}
	mode := "rw"
	switch {
	case m.RecursiveReadOnly:
		if !b.hasMountOption("rro") || !b.in.Host.RecursiveReadOnly {
			return specs.Mount{}, unsupported(field+".recursive_read_only", nil, "needs Linux 5.12 and a runtime that knows the mount option rro")
		}
		mode = "rro"
	case m.Readonly:
		mode = "ro"
	}
	if m.SelinuxRelabel {
		if err := b.relabel(field, source); err != nil {
			return specs.Mount{}, err
		}
	}
	dest := path.Clean(m.ContainerPath)
	return bind(source, dest, append([]string{propagation, mode}, m.MountOptions...)...), nil
}

// hostPath follows links, as the CRI says, and makes a directory where nothing
// is: the kubelet checks host paths by their type only if the pod gives one, and
// counts on the runtime for the rest.
func hostPath(field, host string) (string, error) {
	host = filepath.Clean(host)
	source, err := filepath.EvalSymlinks(host)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(host, 0o755); err != nil {
			return "", invalid(field+".host_path", host, "doesn't exist and can't be made: %v", err)
		}
		source, err = filepath.EvalSymlinks(host)
	}
	if err != nil {
		return "", invalid(field+".host_path", host, "can't be resolved: %v", err)
	}
	return source, nil
}

// propagation returns the mount option, and makes the container's whole tree
// receive or send mounts if that is asked for.
func (b *builder) propagation(field string, m *cri.Mount, source string) (string, error) {
	field += ".propagation"
	switch m.Propagation {
	case cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		peers, err := peersOf(source)
		if err != nil {
			return "", err
		}
		if !peers.shared && !peers.slave {
			return "", invalid(field, m.Propagation, "can't be had: %s is on the mount %s, which receives no mounts", source, peers.mountpoint)
		}
		if b.spec.Linux.RootfsPropagation != "rshared" {
			b.spec.Linux.RootfsPropagation = "rslave"
		}
		return "rslave", nil
	case cri.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		peers, err := peersOf(source)
		if err != nil {
			return "", err
		}
		if !peers.shared {
			return "", invalid(field, m.Propagation, "can't be had: %s is on the mount %s, which is not shared", source, peers.mountpoint)
		}
		b.spec.Linux.RootfsPropagation = "rshared"
		return "rshared", nil
	default:
		return "rprivate", nil
	}
}

func (b *builder) hasMountOption(option string) bool {
	return b.in.Features != nil && slices.Contains(b.in.Features.MountOptions, option)
}

// depth counts the elements of a clean, absolute path.
func depth(p string) int {
	return strings.Count(strings.TrimSuffix(p, "/"), "/")
}
