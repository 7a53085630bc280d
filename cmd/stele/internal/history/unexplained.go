package history

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	"github.com/stele-runtime/stele/eventlog"
	"github.com/stele-runtime/stele/executors/spec"
)

const (
	// bundleMost is the longest config.json that is read, in bytes.
	bundleMost = 16 << 20
	// foundReason is why the history of what was found is lost.
	foundReason = "it was found on the node after the event log was damaged, and neither a backup nor the state directory knows it"
)

// entityName matches ids of sandboxes and containers.
var entityName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// onNode reports whether the state directory has something of a sandbox or container.
func (h *Opener) onNode(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(h.State, dir, name))
	return !errors.Is(err, os.ErrNotExist)
}

// unexplained tells the log what is on the node and nothing knows: it is listed as unknown, left
// alone, and can be stopped and removed. What it was, its bundle says in part.
func (r *restoring) unexplained() error {
	if !r.kept.ThisBoot && r.opener.onNode("kept", keptBoot) {
		return nil // what is there is from before a reboot
	}
	containers, err := r.strangers("containers")
	if err != nil {
		return err
	}
	sandboxes, err := r.strangers("sandboxes")
	if err != nil {
		return err
	}
	bundles := map[string]bundle{}
	for _, name := range containers {
		bundles[name] = r.opener.bundle(name)
	}
	for _, name := range sandboxes {
		s, err := r.foundSandbox(name, bundles)
		if err == nil {
			err = retell(r, "sandbox/"+eventlog.Stream(name), sandbox.Facts(s), codec.EncodeSandbox, foundReason)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range containers {
		c, err := r.foundContainer(name, bundles[name])
		if err == nil {
			err = retell(r, "container/"+eventlog.Stream(name), container.Facts(c), codec.EncodeContainer, foundReason)
		}
		if err != nil {
			return err
		}
	}
	r.said.Unexplained = len(sandboxes) + len(containers)
	return nil
}

// strangers are the directories of what the log does not know.
func (r *restoring) strangers(dir string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Join(r.opener.State, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	kind := map[string]string{"sandboxes": "sandbox/", "containers": "container/"}[dir]
	for _, e := range entries {
		if !entityName.MatchString(e.Name()) {
			continue
		}
		_, known, err := r.log.Stream(r.ctx, eventlog.Stream(kind+e.Name()))
		if err != nil {
			return nil, err
		}
		if !known {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// bundle is what a container's bundle says of it.
type bundle struct {
	annotations map[string]string
	handler     string
	made        time.Time
}

// bundle reads what it can; nothing of it is needed.
func (h *Opener) bundle(name string) bundle {
	dir := filepath.Join(h.State, "containers", name)
	b := bundle{handler: h.handlerOf(name), made: madeAt(dir)}
	file, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		h.Logger.Warn("a container that nothing explains has no readable bundle", "container", name, "error", err)
		return b
	}
	defer func() { _ = file.Close() }() // it is only read
	var config specs.Spec
	if err := json.NewDecoder(io.LimitReader(file, bundleMost)).Decode(&config); err != nil {
		h.Logger.Warn("a container that nothing explains has no readable bundle", "container", name, "error", err)
		return b
	}
	b.annotations = config.Annotations
	return b
}

// handlerOf is the handler whose runtime knows a container; empty if none does.
func (h *Opener) handlerOf(name string) string {
	for _, handler := range slices.Sorted(maps.Keys(h.Runtimes)) {
		if _, err := os.Lstat(filepath.Join(h.Runtimes[handler], name)); err == nil {
			return handler
		}
	}
	return ""
}

func madeAt(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Now().UTC()
	}
	return info.ModTime().UTC()
}

// metadata is the pod's as the bundle names it. A name has to be there and to be free.
func (b *bundle) metadata(sandboxID string) *runtimeapi.PodSandboxMetadata {
	return &runtimeapi.PodSandboxMetadata{
		Name:      cmp.Or(b.annotations[spec.AnnotationPodName], "unknown-"+sandboxID[:min(13, len(sandboxID))]),
		Namespace: b.annotations[spec.AnnotationPodNamespace], Uid: b.annotations[spec.AnnotationPodUID],
	}
}

// labels are those by which the kubelet knows what is its own.
func (b *bundle) labels() map[string]string {
	labels := map[string]string{}
	for label, annotation := range map[string]string{
		"io.kubernetes.pod.name": spec.AnnotationPodName, "io.kubernetes.pod.namespace": spec.AnnotationPodNamespace,
		"io.kubernetes.pod.uid": spec.AnnotationPodUID,
	} {
		if value := b.annotations[annotation]; value != "" {
			labels[label] = value
		}
	}
	return labels
}

func (r *restoring) foundSandbox(name string, bundles map[string]bundle) (sandbox.State, error) {
	h := r.opener
	dir := filepath.Join(h.State, "sandboxes", name)
	s := sandbox.State{
		ID: id.Sandbox(name), Phase: sandbox.Ready, CreatedAt: madeAt(dir), Prepared: true,
		SharedPID: h.onNode("sandboxes", filepath.Join(name, "holder")), HostNetwork: !h.onNode("sandboxes", filepath.Join(name, "ns", "net")),
	}
	var told bundle
	for c, b := range bundles {
		if b.annotations[spec.AnnotationSandboxID] == name {
			s.Containers, told = s.Containers.With(sandbox.Member{ID: id.Container(c)}), b
		}
	}
	s.Handler = cmp.Or(h.handlerOf(name), told.handler, h.Default)
	metadata := told.metadata(name)
	s.Name = sandbox.Name{Name: metadata.GetName(), Namespace: metadata.GetNamespace(), UID: metadata.GetUid()}
	config, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Metadata: metadata, Labels: told.labels(), Linux: &runtimeapi.LinuxPodSandboxConfig{}})
	if err != nil {
		return s, fmt.Errorf("encode the configuration of sandbox %s: %w", name, err)
	}
	s.Config = config
	return s, nil
}

func (r *restoring) foundContainer(name string, b bundle) (container.State, error) {
	c := container.State{
		ID: id.Container(name), Sandbox: id.Sandbox(b.annotations[spec.AnnotationSandboxID]), Phase: container.Running,
		Name:     container.Name{Name: cmp.Or(b.annotations[spec.AnnotationContainerName], "unknown-"+name[:13])},
		Request:  container.Request{At: b.made, Handler: cmp.Or(b.handler, r.opener.Default)},
		Creation: container.Creation{RootfsPrepared: true},
		Run:      container.Run{RequestedAt: b.made, StartedAt: b.made},
	}
	labels := b.labels()
	labels["io.kubernetes.container.name"] = c.Name.Name
	image := &runtimeapi.ImageSpec{Image: b.annotations[spec.AnnotationImageName], UserSpecifiedImage: b.annotations[spec.AnnotationImageName]}
	config, err := proto.Marshal(&runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: c.Name.Name}, Labels: labels, Image: image})
	if err != nil {
		return c, fmt.Errorf("encode the configuration of container %s: %w", name, err)
	}
	sandboxConfig, err := proto.Marshal(&runtimeapi.PodSandboxConfig{Metadata: b.metadata(string(c.Sandbox)), Linux: &runtimeapi.LinuxPodSandboxConfig{}})
	if err != nil {
		return c, fmt.Errorf("encode the configuration of sandbox %s: %w", c.Sandbox, err)
	}
	c.Request.Config, c.Request.SandboxConfig = config, sandboxConfig
	return c, nil
}
