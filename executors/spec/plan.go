package spec

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Plan is all that a container takes.
type Plan struct {
	Spec *specs.Spec
	// Steps are to be carried out in this order before the runtime gets the spec.
	// Each is idempotent: done before is done.
	Steps []Step
}

// Step is something that must be made. Package volumes carries it out.
type Step interface{ step() }

// MakeHostDir makes a directory of the node, and those above it, because the pod
// mounts it and nothing is there: the kubelet checks host paths by their type only
// if the pod gives one, and counts on the runtime for the rest.
type MakeHostDir struct {
	// Field is the CRI's that names the path.
	Field string
	// Path has no links in the part that exists.
	Path string
}

// Relabel gives everything at and below a path of the node the SELinux label of
// the container, so that it can use it.
type Relabel struct {
	Path, Label string
	// Unless: if the path itself has the label already, nothing is done.
	Unless bool
}

// FillVolume makes the directory of an image's volume, with a copy of what the
// image has at Path.
type FillVolume struct {
	Rootfs string
	// Path is clean, absolute and inside Rootfs: links lead no further.
	Path string
	// Dir is the directory to make. One that is there is complete.
	Dir string
	// UID and GID own the directory if the image has nothing at Path.
	UID, GID uint32
}

// CopyOfNode copies a file of the node, or a directory with all files that are below it.
type CopyOfNode struct {
	Source string
	// Path is where the copy is made. One that is there is complete.
	Path string
	// UID and GID, the node's, own the copy: the container's root.
	UID, GID uint32
}

// MakeMtab links /etc/mtab to /proc/mounts inside the root file system, for programs that look
// there for what is mounted. If something is there, nothing is done.
type MakeMtab struct {
	Rootfs string
	// UID and GID, the node's, own what is made: the container's root.
	UID, GID uint32
}

// SetTimezone makes /etc/localtime inside the root file system: a link to the zone if the image has
// it, or else a copy of the node's file.
type SetTimezone struct {
	Rootfs string
	// Zone is the file on the node.
	Zone string
	// UID and GID, the node's, own what is made: the container's root.
	UID, GID uint32
}

// AppendLine adds a line to a file inside the root file system.
type AppendLine struct {
	Rootfs string
	// Path is clean, absolute and inside Rootfs: links lead no further.
	Path string
	// Line has no line break. If the file has it, nothing is done.
	Line string
}

// MakeWorkingDir makes a directory inside the root file system, and those above it: the working
// directory, as builders of images expect, or that of a volume.
type MakeWorkingDir struct {
	// Field says who named it.
	Field  string
	Rootfs string
	// Path is clean, absolute and inside Rootfs: links lead no further.
	Path string
	// UID and GID, the node's, own what is made.
	UID, GID uint32
}

// LoadAppArmor loads the profile that Stele brings into the kernel, under its name.
type LoadAppArmor struct{ Profile string }

func (LoadAppArmor) step()   {}
func (MakeHostDir) step()    {}
func (Relabel) step()        {}
func (FillVolume) step()     {}
func (CopyOfNode) step()     {}
func (MakeMtab) step()       {}
func (SetTimezone) step()    {}
func (AppendLine) step()     {}
func (MakeWorkingDir) step() {}
