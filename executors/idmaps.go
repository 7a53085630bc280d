package executors

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/namespaces"
)

// unmappable replaces the runtime's refusal if a volume's ids can't be mapped: whether they can,
// only the file system knows. Those that can are not asked about.
func unmappable(err error, c container.Spec, mounts []*runtimeapi.Mount, user string) error {
	if user == "" {
		return err
	}
	for i, m := range mounts {
		if len(m.GetUidMappings()) == 0 || m.GetImage().GetImage() != "" {
			continue
		}
		if why := namespaces.MapsIDs(user, m.GetHostPath()); why != nil {
			return fault.New(fault.Unsupported, "create container", string(c.ID),
				"mounts[%d].host_path: the file system of %.100q has no id-mapped mounts on this kernel: %v; the runtime says: %v", i, m.GetHostPath(), why, err)
		}
	}
	return err
}
