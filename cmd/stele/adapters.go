package main

import (
	"context"
	"errors"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/cri"
	"github.com/stele-runtime/stele/eventlog/boltlog"
	"github.com/stele-runtime/stele/executors"
	"github.com/stele-runtime/stele/executors/cgroups"
	"github.com/stele-runtime/stele/executors/namespaces"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/storage"
	"github.com/stele-runtime/stele/projections"
)

// imageStore is what there is of images and artifacts, as the CRI reads it.
type imageStore struct{ drivers *executors.Drivers }

func (s imageStore) List(ctx context.Context) ([]cri.Image, error) {
	all, err := s.drivers.Images(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]cri.Image, len(all))
	for i := range all {
		images[i] = criImage(&all[i])
	}
	return images, nil
}

func (s imageStore) Resolve(ctx context.Context, ref string) (cri.Image, error) {
	found, err := s.drivers.ResolveImage(ctx, ref)
	if errors.Is(err, storage.ErrImageNotFound) {
		return cri.Image{}, fault.New(fault.NotFound, "find image", ref, "%v", err)
	}
	if err != nil {
		return cri.Image{}, err
	}
	return criImage(&found), nil
}

func (s imageStore) Usage(ctx context.Context) (cri.Usage, error) {
	images, containers, err := s.drivers.Store.Usage.Filesystems(ctx)
	if err != nil {
		return cri.Usage{}, err
	}
	return cri.Usage{
		At: images.Timestamp, ImagePath: images.Path, ImageBytes: images.Bytes, ImageInodes: images.Inodes,
		ContainerPath: containers.Path, ContainerBytes: containers.Bytes, ContainerInodes: containers.Inodes,
	}, nil
}

func criImage(i *storage.Image) cri.Image {
	image := cri.Image{ID: i.ID, Tags: i.Names, Digests: i.Digests, Size: i.Size, Annotations: i.Annotations, Pinned: i.Pinned}
	image.UID, image.Username = i.RunsAs()
	if i.Config != nil {
		image.StopSignal, image.Labels = i.Config.Config.StopSignal, i.Config.Config.Labels
	}
	return image
}

// validator refuses, before anything is done, what the drivers would refuse
// later.
type validator struct{ cgroups *cgroups.Manager }

func (v validator) Sandbox(config *runtimeapi.PodSandboxConfig) error {
	if err := spec.ValidateSandbox(config); err != nil {
		return refused("run pod sandbox", err)
	}
	if err := cgroups.ValidateParent(v.cgroups.Driver(), config.GetLinux().GetCgroupParent()); err != nil {
		return refused("run pod sandbox", err)
	}
	options := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	hostNetwork := options.GetNetwork() == runtimeapi.NamespaceMode_NODE
	hostIPC := options.GetIpc() == runtimeapi.NamespaceMode_NODE
	if err := namespaces.ValidateSysctls(config.GetLinux().GetSysctls(), hostNetwork, hostIPC); err != nil {
		return refused("run pod sandbox", err)
	}
	if _, err := executors.NetworkPod(config, "", ""); err != nil {
		return refused("run pod sandbox", err)
	}
	return nil
}

func (v validator) Container(config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) error {
	if err := spec.ValidateContainer(config, pod); err != nil {
		return refused("create container", err)
	}
	return nil
}

// refused keeps the kind that a driver gave its refusal, and takes any other for
// a bad argument: only the request was looked at.
func refused(op string, err error) error {
	kind := fault.Invalid
	if f, ok := errors.AsType[*fault.Fault](err); ok {
		kind = f.Kind
	}
	return fault.New(kind, op, "", "%v", err)
}

// info is what a verbose Status tells.
func info(c config.Config, live *projections.Live, log *boltlog.Log) func() map[string]any {
	return func() map[string]any {
		handlers := map[string]string{}
		for name, h := range c.Runtime.Handlers {
			handlers[name] = h.Path
		}
		stats := log.Stats()
		return map[string]any{
			"version": version,
			"config": map[string]any{
				"root": c.Root, "state": c.State, "listen": c.Listen, "monitor": c.Monitor,
				"cniConfDir": c.Network.ConfDir, "cniPluginDirs": c.Network.PluginDirs, "runtimes": handlers, "defaultRuntime": c.Runtime.Default,
			},
			"eventLog": map[string]any{
				"lastSequence": log.Last(), "records": stats.Records, "commits": stats.Commits, "commitTime": stats.CommitTime.String(),
				"appends": stats.Appends, "waitTime": stats.WaitTime.String(),
			},
			"entities": map[string]any{
				"sandboxes": len(live.Sandboxes()), "containers": len(live.Containers()), "quarantined": live.Damaged(),
			},
		}
	}
}
