package confine

import (
	"slices"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// seccompKeys are CRI-O's names of the annotation that names a seccomp profile in an OCI artifact:
// with "/NAME" for a container, with "/POD" for all of a pod.
func seccompKeys() []string {
	return []string{"seccomp-profile.crio.io", "seccomp-profile.kubernetes.cri-o.io"}
}

// Artifact is an OCI artifact that is a seccomp profile.
type Artifact struct {
	// Annotation named it.
	Annotation string
	// Name is the artifact's, as the annotation has it.
	Name string
	// Digest is that of its manifest, once it is known.
	Digest string
	Data   []byte
}

// AskedArtifact is the artifact that a container's profile is in; nil for none. As with CRI-O it
// counts where the handler allows the annotation, for containers whose own profile is Unconfined or
// not given. The annotations of images do not count: images get no control (CVE-2026-53488).
func AskedArtifact(c *cri.ContainerConfig, pod *cri.PodSandboxConfig, allowed []string) *Artifact {
	sec := c.GetLinux().GetSecurityContext()
	if sec.GetPrivileged() {
		return nil
	}
	r := Request{Security: &cri.LinuxContainerSecurityContext{Seccomp: sec.GetSeccomp(), SeccompProfilePath: sec.GetSeccompProfilePath()}}
	if p, _ := r.seccompProfile(); p.ProfileType != cri.SecurityProfile_Unconfined {
		return nil
	}
	for _, of := range []string{c.GetMetadata().GetName(), "POD"} {
		for _, key := range seccompKeys() {
			full := key + "/" + of
			name, is := pod.GetAnnotations()[full]
			if is && (slices.Contains(allowed, key) || slices.Contains(allowed, full)) {
				return &Artifact{Annotation: full, Name: name}
			}
		}
	}
	return nil
}

// Field is the field of a FieldError about the artifact.
func (a *Artifact) Field() string { return "annotations[" + a.Annotation + "]" }
