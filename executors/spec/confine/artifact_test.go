package confine

import (
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestAskedArtifact(t *testing.T) {
	const key, newKey = "seccomp-profile.kubernetes.cri-o.io", "seccomp-profile.crio.io"
	unconfined := &cri.LinuxContainerSecurityContext{Seccomp: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}}
	for name, tc := range map[string]struct {
		annotations map[string]string
		sec         *cri.LinuxContainerSecurityContext
		allowed     string
		want        string
	}{
		"the pod's":                    {map[string]string{key + "/POD": "pod"}, unconfined, key, "pod"},
		"no security context":          {map[string]string{key + "/POD": "pod"}, nil, key, "pod"},
		"the container's goes before":  {map[string]string{key + "/POD": "pod", key + "/c": "own"}, unconfined, key, "own"},
		"the new key":                  {map[string]string{newKey + "/c": "own"}, unconfined, newKey, "own"},
		"allowed for one container":    {map[string]string{key + "/c": "own"}, unconfined, key + "/c", "own"},
		"not allowed":                  {map[string]string{key + "/c": "own"}, unconfined, newKey, ""},
		"CVE-2023-6476: a longer key":  {map[string]string{key + "x/c": "own"}, unconfined, key, ""},
		"without a name":               {map[string]string{key: "own"}, unconfined, key, ""},
		"another container's":          {map[string]string{key + "/d": "own"}, unconfined, key, ""},
		"it has a profile":             {map[string]string{key + "/c": "own"}, &cri.LinuxContainerSecurityContext{Seccomp: &cri.SecurityProfile{}}, key, ""},
		"it has one in the older form": {map[string]string{key + "/c": "own"}, &cri.LinuxContainerSecurityContext{SeccompProfilePath: "runtime/default"}, key, ""},
		"privileged":                   {map[string]string{key + "/c": "own"}, &cri.LinuxContainerSecurityContext{Privileged: true}, key, ""},
	} {
		container := &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "c"}, Linux: &cri.LinuxContainerConfig{SecurityContext: tc.sec}}
		got := ""
		if a := AskedArtifact(container, &cri.PodSandboxConfig{Annotations: tc.annotations}, []string{tc.allowed}); a != nil {
			got = a.Name
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
