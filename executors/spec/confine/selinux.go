package confine

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const fieldSELinux = "linux.security_context.selinux_options"

// Contexts are those that the node's SELinux policy has for containers, each of the form
// user:role:type:level. They are empty without a policy for containers.
type Contexts struct {
	// Process is that of a container's processes, Init that of one whose program is an init
	// system.
	Process, Init string
	// File is that of a container's own files, Shared that of files that every container
	// may read.
	File, Shared string
}

// AnnotationSkipRelabel, set to "true" on a pod, leaves volumes alone whose root has the right
// label already, where its handler allows the annotation. It has CRI-O's names.
const AnnotationSkipRelabel, AnnotationSkipRelabelV2 = "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", "try-skip-volume-selinux-label.crio.io"

// superPrivileged is the type of containers that SELinux does not confine. As with CRI-O, nothing
// is relabelled for them.
const superPrivileged = "spc_t"

// selinuxOptions are those of the container; what it leaves open is the pod's. So all containers
// of a pod have its level unless they ask for another.
func (r *Request) selinuxOptions() *cri.SELinuxOption {
	pod := r.Sandbox.GetLinux().GetSecurityContext().GetSelinuxOptions()
	own := r.Security.SelinuxOptions
	merged := &cri.SELinuxOption{User: pod.GetUser(), Role: pod.GetRole(), Type: pod.GetType(), Level: pod.GetLevel()}
	for _, part := range []struct {
		to   *string
		from string
	}{
		{&merged.User, own.GetUser()}, {&merged.Role, own.GetRole()}, {&merged.Type, own.GetType()}, {&merged.Level, own.GetLevel()},
	} {
		if part.from != "" {
			*part.to = part.from
		}
	}
	return merged
}

// MountLabel is the label of the container's files; empty for none. A container that shares the
// node's processes or IPC has none, as with CRI-O: SELinux would separate what is to be shared.
func (r *Request) MountLabel() string {
	if !r.Node.SELinux || sharesNode(r.Security.NamespaceOptions) {
		return ""
	}
	o := r.selinuxOptions()
	return label(r.Node.Contexts.File, &cri.SELinuxOption{User: o.User, Level: o.Level})
}

// PodMountLabel is the label of the files that a pod's containers share; empty for none.
func PodMountLabel(node *Node, pod *cri.PodSandboxConfig) string {
	security := pod.GetLinux().GetSecurityContext()
	if !node.SELinux || sharesNode(security.GetNamespaceOptions()) {
		return ""
	}
	o := security.GetSelinuxOptions()
	return label(node.Contexts.File, &cri.SELinuxOption{User: o.GetUser(), Level: o.GetLevel()})
}

// NeedsLevel reports whether a pod is to get a level of its own: none is given, and its containers
// may have labels.
func NeedsLevel(node *Node, pod *cri.PodSandboxConfig) bool {
	return node.SELinux && strings.Count(node.Contexts.Process, ":") >= 3 &&
		pod.GetLinux().GetSecurityContext().GetSelinuxOptions().GetLevel() == ""
}

func sharesNode(o *cri.NamespaceOption) bool {
	return o.GetPid() == cri.NamespaceMode_NODE || o.GetIpc() == cri.NamespaceMode_NODE
}

// processLabel is that of the container's processes; empty for none. As with CRI-O, that is so for
// a privileged container, for one that shares the node's processes or IPC and, unless the
// administrator wants it otherwise, for one on the node's network.
func (r *Request) processLabel() string {
	ns := r.Security.NamespaceOptions
	hostNetwork := ns.GetNetwork() == cri.NamespaceMode_NODE && !r.Options.LabelHostNetwork
	if !r.Node.SELinux || r.ignoresSELinux() || r.Security.Privileged || hostNetwork || sharesNode(ns) {
		return ""
	}
	base := r.Node.Contexts.Process
	if r.Init && r.Node.Contexts.Init != "" {
		base = r.Node.Contexts.Init
	}
	return label(base, r.selinuxOptions())
}

// label replaces parts of a context. The level may have colons itself; a policy without levels
// has no fourth part.
func label(context string, o *cri.SELinuxOption) string {
	parts := strings.SplitN(context, ":", 4)
	if len(parts) < 3 {
		return ""
	}
	for i, value := range []string{o.User, o.Role, o.Type, o.Level} {
		if value != "" && i < len(parts) {
			parts[i] = value
		}
	}
	return strings.Join(parts, ":")
}

// labels are those that the kernel's policy must know.
func (r *Request) labels() (labels []string) {
	for _, l := range []string{r.processLabel(), r.MountLabel()} {
		if l != "" {
			labels = append(labels, l)
		}
	}
	return labels
}

// SELinux sets the labels of the process and of its files. The runtime gives the process's label
// to its keyring, too.
func (r *Request) SELinux(spec *specs.Spec) error {
	o := r.selinuxOptions()
	if r.Node.SELinux && r.Node.Contexts.Process == "" && (o.User != "" || o.Role != "" || o.Type != "" || o.Level != "") {
		return refusal.Unsupported(fieldSELinux, nil, "can't be applied: the node's policy has no labels for containers")
	}
	// The level may be one that Stele has chosen.
	if r.Node.SELinux && r.ignoresSELinux() && (o.User != "" || o.Role != "" || o.Type != "") {
		return refusal.Unsupported(fieldSELinux, nil, "can't be applied: the handler's runtime has no SELinux")
	}
	if len(r.labels()) == 0 {
		return nil
	}
	if err := r.Found.Labels; err != nil {
		return refusal.Invalid(fieldSELinux, nil, "can't be used: %v", err)
	}
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = r.processLabel(), r.MountLabel()
	return nil
}

// ignoresSELinux reports whether the runtime says that it gives no labels, as gVisor's does.
func (r *Request) ignoresSELinux() bool {
	f := r.Features
	return f != nil && f.Linux != nil && f.Linux.Selinux != nil && f.Linux.Selinux.Enabled != nil && !*f.Linux.Selinux.Enabled
}

// Relabelling says which label a volume gets.
type Relabelling struct {
	// Label is empty if the volume keeps what it has.
	Label string
	// Unless: a volume whose root has the label already is left alone.
	Unless bool
}

// Relabel returns the label that a volume is to be given. What belongs to the runtime or to the
// system, or holds that, is never relabelled: a host path would hand it to the container, or
// take it from the node (CVE-2021-43816).
func (r *Request) Relabel(field, source string) (Relabelling, error) {
	for _, own := range r.Options.OwnDirs {
		own = path.Clean(own)
		if covers(own, source) || covers(source, own) {
			return Relabelling{}, refusal.Invalid(field+".selinux_relabel", source, "is refused: the path belongs to the runtime")
		}
	}
	if ofSystem(source) {
		return Relabelling{}, refusal.Invalid(field+".selinux_relabel", source, "is refused: the path belongs to the system")
	}
	if !r.Node.SELinux || r.selinuxOptions().Type == superPrivileged {
		return Relabelling{}, nil
	}
	return Relabelling{Label: r.MountLabel(), Unless: r.skipsRelabel()}, nil
}

func (r *Request) skipsRelabel() bool {
	for _, key := range []string{AnnotationSkipRelabel, AnnotationSkipRelabelV2} {
		if r.Sandbox.GetAnnotations()[key] == "true" && slices.Contains(r.Annotations, key) {
			return true
		}
	}
	return false
}

// ofSystem reports whether a path is the system's: below some directories everything is, others
// also have what may be a volume.
func ofSystem(p string) bool {
	for _, dir := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr"} {
		if covers(dir, p) {
			return true
		}
	}
	return slices.Contains([]string{
		"/", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/user", "/srv", "/tmp",
		"/var", "/var/cache", "/var/lib", "/var/log", "/var/log/pods", "/var/log/containers", "/var/opt", "/var/run", "/var/spool", "/var/tmp",
		"/var/lib/containerd", "/var/lib/containers", "/var/lib/crio", "/var/lib/docker", "/var/lib/etcd",
		"/var/lib/kubelet", "/var/lib/kubelet/pki", "/var/lib/kubelet/pods", "/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry",
	}, p)
}

// covers reports whether a path is a directory or below it; both are clean and absolute.
func covers(dir, p string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir+"/")
}

// CheckSELinux refuses labels that can't be ones.
func CheckSELinux(field string, o *cri.SELinuxOption) error {
	for _, part := range []struct{ name, value, not string }{
		{"user", o.GetUser(), ":"},
		{"role", o.GetRole(), ":"},
		{"type", o.GetType(), ":"},
		{"level", o.GetLevel(), ""},
	} {
		// A label is also an option of mounts, in quotes.
		if strings.ContainsAny(part.value, part.not+"\"\\ \t\r\n\x00") {
			return refusal.Invalid(field+"."+part.name, part.value, "has a character that labels don't have")
		}
		if len(part.value) > maxLabel {
			return refusal.Invalid(field+"."+part.name, part.value, "is longer than %d bytes", maxLabel)
		}
	}
	return nil
}

// maxLabel bounds a part of a label, in bytes: the kernel takes no context longer than a page.
const maxLabel = 1024
