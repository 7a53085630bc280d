package spec

import (
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/confine"
)

// Questions are what must be known of the node and of the container's root file
// system to plan this container. The image's accounts and /etc/mtab and the node's name are
// always asked for.
type Questions struct {
	Rootfs string
	// WorkingDir is a path inside Rootfs; empty is no question.
	WorkingDir string
	// HostRoot is the directory below which HostPaths are looked for, without a link leading out
	// of it; empty for the node's root.
	HostRoot string
	// HostPaths are those of the pod's mounts, clean and each once.
	HostPaths []HostPathQuestion
	// DefaultMounts are paths of the node, clean.
	DefaultMounts []string
	// Devices are paths of the node, each a device or a directory of devices.
	Devices []string
	// AllDevices asks for all devices in /dev.
	AllDevices bool
	confine.Questions
}

// HostPathQuestion asks what a path of the node is.
type HostPathQuestion struct {
	Path string
	// Mount asks for the mount that the path is on, too.
	Mount bool
}

// Answers are the node's to Questions. An error in one is told only if the plan
// needs that answer.
type Answers struct {
	// Passwd and Group are the image's account files; a missing one is empty.
	Passwd, Group File
	// NoMtab: the image has no /etc/mtab, and one can be made.
	NoMtab bool
	// Hostname is the node's.
	Hostname   Text
	WorkingDir Place
	HostPaths  map[string]HostPath
	// DefaultMounts say of each path what it is.
	DefaultMounts map[string]HostPath
	Devices       map[string]Devices
	AllDevices    Devices
	confine.Answers
}

// File is the content of a file, bounded by the reader.
type File struct {
	Data []byte
	// Open: others than root may write it.
	Open bool
	Err  error
}

// Text is something that the node says of itself.
type Text struct {
	Value string
	Err   error
}

// Place is where a path inside a root file system leads: a clean, absolute path
// in which nothing that exists is a link.
type Place struct {
	Path string
	Err  error
}

// HostPath is what a path of the node is.
type HostPath struct {
	// Path has no links in the part that exists.
	Path string
	// Missing: nothing is there.
	Missing bool
	// Mount is the one that Path is on, if it was asked for.
	Mount Mount
	Err   error
}

// Mount says where the mounts that are made below a mountpoint go to and come from.
type Mount struct {
	Mountpoint string
	// Shared: mounts go out and come in. Slave: they come in.
	Shared, Slave bool
	Err           error
}

// Devices are the device nodes at a path of the node, or below it if it is a
// directory.
type Devices struct {
	Nodes []Device
	Err   error
}

// Device is a device node; its Path is relative to the path that was asked for,
// and empty if that is the device.
type Device specs.LinuxDevice

// Ask returns what must be known to plan a container. It refuses what Container
// would refuse whatever the answers are; the error is a FieldError.
func Ask(in Input) (Questions, error) {
	r, err := newRequest(in, Answers{})
	if err != nil {
		return Questions{}, err
	}
	q := Questions{Rootfs: in.Rootfs, Questions: r.confined().Ask(), AllDevices: r.seesAllDevices()}
	if _, dir := r.workingDir(); dir != "/" {
		q.WorkingDir = dir
	}
	for _, m := range in.Container.Mounts {
		if m.Image.GetImage() == "" {
			q.askHostPath(path.Clean(m.HostPath), m.Propagation != cri.MountPropagation_PROPAGATION_PRIVATE)
		}
	}
	q.HostRoot = in.Options.HostRoot
	for _, m := range in.Options.DefaultMounts {
		q.DefaultMounts = append(q.DefaultMounts, m.Source)
	}
	wanted, err := r.wantedDevices()
	if err != nil {
		return Questions{}, err
	}
	for _, d := range wanted {
		if !slices.Contains(q.Devices, d.HostPath) {
			q.Devices = append(q.Devices, d.HostPath)
		}
	}
	return q, nil
}

func (q *Questions) askHostPath(path string, mount bool) {
	i := slices.IndexFunc(q.HostPaths, func(p HostPathQuestion) bool { return p.Path == path })
	if i < 0 {
		q.HostPaths = append(q.HostPaths, HostPathQuestion{Path: path, Mount: mount})
		return
	}
	q.HostPaths[i].Mount = q.HostPaths[i].Mount || mount
}
