package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	core "k8s.io/api/core/v1"
	nodes "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nodeObject: what kubectl get nodes -o wide shows, and what the scheduler goes by.
func nodeObject(c *cluster) {
	n, err := c.api.CoreV1().Nodes().Get(c.t.Context(), nodeName, meta.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if version := n.Status.NodeInfo.ContainerRuntimeVersion; !strings.HasPrefix(version, "stele://") {
		c.t.Errorf("runtime version %q", version)
	}
	handlers := map[string]bool{}
	for _, h := range n.Status.RuntimeHandlers {
		handlers[h.Name] = true
		if h.Features == nil || h.Features.UserNamespaces == nil || !*h.Features.UserNamespaces ||
			h.Features.RecursiveReadOnlyMounts == nil || !*h.Features.RecursiveReadOnlyMounts {
			c.t.Errorf("handler %q has the features %v", h.Name, h.Features)
		}
	}
	for _, name := range []string{"", "runc", "other"} {
		same(c.t, "handler "+name, handlers[name], true)
	}
	if f := n.Status.Features; f == nil || f.SupplementalGroupsPolicy == nil || !*f.SupplementalGroupsPolicy {
		c.t.Errorf("features %v", f)
	}
	images := map[string]bool{}
	for _, image := range n.Status.Images {
		for _, name := range image.Names {
			images[name] = true
		}
	}
	same(c.t, "image "+c.Busybox, images[c.Busybox], true)
}

// runtimeClasses: each names a handler, and the pod runs with it.
func runtimeClasses(c *cluster) {
	for name, handler := range map[string]string{"usual": "runc", "unusual": "other"} {
		class := c.class(name, handler)
		m := manifest("class-"+class, c.shell("main", "exec sleep 3600"))
		m.Spec.RuntimeClassName = &class
		p := c.runReady(m)
		same(c.t, "handler of class "+class, p.sandboxes()[0].RuntimeHandler, handler)
		same(c.t, "exec", p.exec("main", "echo", "hello"), "hello")
	}
}

// class makes a RuntimeClass, and returns its name.
func (c *cluster) class(name, handler string) string {
	c.t.Helper()
	class := &nodes.RuntimeClass{ObjectMeta: meta.ObjectMeta{Name: name}, Handler: handler}
	if _, err := c.api.NodeV1().RuntimeClasses().Create(c.t.Context(), class, meta.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	return name
}

// debug: kubectl debug --target.
func debug(c *cluster) {
	p := c.runReady(manifest("debugged", c.shell("main", "exec sleep 3601"), c.shell("other", "exec sleep 3602")))
	pods := c.api.CoreV1().Pods(namespace)
	m, err := pods.Get(c.t.Context(), p.name, meta.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Spec.EphemeralContainers = []core.EphemeralContainer{{
		EphemeralContainerCommon: core.EphemeralContainerCommon{
			Name: "debugger", Image: c.Busybox, ImagePullPolicy: core.PullIfNotPresent, Command: []string{"sleep", "3603"},
		},
		TargetContainerName: "main",
	}}
	if _, err := pods.UpdateEphemeralContainers(c.t.Context(), p.name, m, meta.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	p.wait("has a debugger", func(s core.PodStatus) bool {
		return len(s.EphemeralContainerStatuses) == 1 && s.EphemeralContainerStatuses[0].State.Running != nil
	})
	seen := p.exec("debugger", "ps", "-o", "args")
	if !strings.Contains(seen, "sleep 3601") || !strings.Contains(seen, "sleep 3603") || strings.Contains(seen, "sleep 3602") {
		c.t.Errorf("the debugger of main sees\n%s", seen)
	}
	same(c.t, "the target's files", p.exec("debugger", "cat", "/proc/1/root/etc/hostname"), p.name)
	same(c.t, "restarts", container(p.status(), "main").RestartCount, 0)
}

// resize patches a pod's resources and waits until the kubelet has done it.
func (c *cluster) resize(p *pod, spec map[string]any) {
	c.t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		c.t.Fatal(err)
	}
	pods := c.api.CoreV1().Pods(namespace)
	m, err := pods.Patch(c.t.Context(), p.name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "resize")
	if err != nil {
		c.t.Fatalf("resize %s: %v", p.name, err)
	}
	c.until("pod "+p.name+" is resized", func() error {
		now, err := pods.Get(c.t.Context(), p.name, meta.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range now.Status.Conditions {
			if condition.Type == core.PodResizePending || condition.Type == core.PodResizeInProgress {
				return fmt.Errorf("it is %v", condition)
			}
		}
		if now.Status.ObservedGeneration < m.Generation {
			return fmt.Errorf("generation %d was seen, want %d", now.Status.ObservedGeneration, m.Generation)
		}
		return nil
	})
}

// limit reads a limit of a container's cgroup, or of its pod's.
func (p *pod) limit(ofPod bool, container, file string) string {
	p.n.t.Helper()
	places := cgroupsOf(p.n, p.n.ContainerPID(p.containerID(container)))
	if ofPod {
		for controller, place := range places {
			places[controller] = filepath.Dir(place)
		}
	}
	return limit(p.n, places, file)
}

func resizeContainer(c *cluster) {
	main := c.shell("main", "exec sleep 3600")
	main.Resources.Requests, main.Resources.Limits = amounts("100m", "64Mi"), amounts("200m", "64Mi")
	p := c.runReady(manifest("resized", main))
	before := p.containerID("main")
	for _, size := range []struct{ cpu, memory, quota, limit string }{
		{"400m", "96Mi", "40000", "100663296"}, {"300m", "80Mi", "30000", "83886080"},
	} {
		c.resize(p, map[string]any{"containers": []any{map[string]any{
			"name": "main", "resources": map[string]any{"limits": map[string]string{"cpu": size.cpu, "memory": size.memory}},
		}}})
		for file, want := range map[string]string{cpuQuota: size.quota, memoryLimit: size.limit} {
			c.until(file+" has the new limit", func() error {
				for _, ofPod := range []bool{false, true} {
					if got := p.limit(ofPod, "main", file); got != want {
						return fmt.Errorf("it is %s, want %s (of the pod: %v)", got, want, ofPod)
					}
				}
				return nil
			})
		}
		p.wait("says that it has "+size.memory, func(s core.PodStatus) bool {
			r := container(s, "main").Resources
			return r != nil && r.Limits.Memory().Cmp(resource.MustParse(size.memory)) == 0 && r.Limits.Cpu().Cmp(resource.MustParse(size.cpu)) == 0
		})
	}
	same(c.t, "container", p.containerID("main"), before)
	same(c.t, "restarts", container(p.status(), "main").RestartCount, 0)
}

func resizePod(c *cluster) {
	m := manifest("pod-resized", c.shell("main", "exec sleep 3600"))
	m.Spec.Resources = &core.ResourceRequirements{Requests: amounts("100m", "64Mi"), Limits: amounts("200m", "64Mi")}
	p := c.runReady(m)
	before := p.containerID("main")
	same(c.t, "quota", p.limit(true, "main", cpuQuota), "20000")
	c.resize(p, map[string]any{"resources": map[string]any{"limits": map[string]string{"cpu": "400m", "memory": "96Mi"}}})
	for file, want := range map[string]string{cpuQuota: "40000", memoryLimit: "100663296"} {
		c.until(file+" of the pod has the new limit", func() error {
			if got := p.limit(true, "main", file); got != want {
				return fmt.Errorf("it is %s, want %s", got, want)
			}
			return nil
		})
	}
	same(c.t, "container", p.containerID("main"), before)
}

// evicted: a pod that fills its emptyDir has to go.
func evicted(c *cluster) {
	m := withScratch(manifest("evicted", c.shell("main", "dd if=/dev/zero of=/share/big bs=64k count=64; exec sleep 3600")))
	size := resource.MustParse("1Mi")
	m.Spec.Volumes[0].EmptyDir.SizeLimit = &size
	status := c.create(m).wait("has Failed", func(s core.PodStatus) bool { return s.Phase == core.PodFailed })
	same(c.t, "reason", status.Reason, "Evicted")
}

func projected(c *cluster) {
	if _, err := c.api.CoreV1().ConfigMaps(namespace).Create(c.t.Context(), &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: "settings"}, Data: map[string]string{"colour": "blue"},
	}, meta.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.api.CoreV1().Secrets(namespace).Create(c.t.Context(), &core.Secret{
		ObjectMeta: meta.ObjectMeta{Name: "secrets"}, StringData: map[string]string{"password": "hidden"},
	}, meta.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	main := c.shell("main", "exec sleep 3600")
	main.VolumeMounts = []core.VolumeMount{{Name: "all", MountPath: "/all", ReadOnly: true}}
	main.EnvFrom = []core.EnvFromSource{{SecretRef: &core.SecretEnvSource{LocalObjectReference: core.LocalObjectReference{Name: "secrets"}}}}
	m := manifest("projected", main)
	m.Spec.Volumes = []core.Volume{{Name: "all", VolumeSource: core.VolumeSource{Projected: &core.ProjectedVolumeSource{Sources: []core.VolumeProjection{
		{ConfigMap: &core.ConfigMapProjection{LocalObjectReference: core.LocalObjectReference{Name: "settings"}}},
		{Secret: &core.SecretProjection{LocalObjectReference: core.LocalObjectReference{Name: "secrets"}}},
		{DownwardAPI: &core.DownwardAPIProjection{Items: []core.DownwardAPIVolumeFile{{Path: "name", FieldRef: &core.ObjectFieldSelector{FieldPath: "metadata.name"}}}}},
	}}}}}
	p := c.runReady(m)
	same(c.t, "files", p.exec("main", "cat", "/all/colour", "/all/password", "/all/name"), "bluehidden"+p.name)
	same(c.t, "environment", p.exec("main", "sh", "-c", "echo $password"), "hidden")
	// A changed map arrives in the running container.
	if _, err := c.api.CoreV1().ConfigMaps(namespace).Update(c.t.Context(), &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{Name: "settings"}, Data: map[string]string{"colour": "green"},
	}, meta.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	c.until("the changed map is there", func() error {
		if got := p.exec("main", "cat", "/all/colour"); got != "green" {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// forced: kubectl delete --grace-period=0 --force. The object goes at once, the pod soon.
func forced(c *cluster) {
	main := c.shell("main", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	m := manifest("forced", main)
	grace := int64(3600)
	m.Spec.TerminationGracePeriodSeconds = &grace
	p := c.runReady(m)
	p.waitLog("main", "ready")
	zero := int64(0)
	pods := c.api.CoreV1().Pods(namespace)
	if err := pods.Delete(c.t.Context(), p.name, meta.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		c.t.Fatal(err)
	}
	p.waitEnded()
}

// deleted: the object stays until the pod has ended in its time.
func deleted(c *cluster) {
	main := c.shell("main", "trap 'sleep 1; echo done >/share/done; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
	dir, volume := c.share("deleted", &main)
	m := manifest("deleted", main)
	grace := int64(120)
	m.Spec.Volumes, m.Spec.TerminationGracePeriodSeconds = []core.Volume{volume}, &grace
	p := c.runReady(m)
	p.waitLog("main", "ready")
	p.delete()
	c.until("the object is gone", func() error { return c.objectGone(p) })
	if content, err := os.ReadFile(filepath.Join(dir, "done")); err != nil || string(content) != "done\n" {
		c.t.Errorf("the pod was gone before it had ended: %q, %v", content, err)
	}
}

// objectGone is nil once the API server has no such pod.
func (c *cluster) objectGone(p *pod) error {
	_, err := c.api.CoreV1().Pods(namespace).Get(context.Background(), p.name, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("it is there, %v", err)
}

// pulls: an image that does not exist is what the pod's status says, and not a hang.
func pulls(c *cluster) {
	p := c.create(manifest("no-image", core.Container{Name: "main", Image: c.Registry.Host + "/kubelet/nothing:latest"}))
	p.wait("cannot pull its image", func(s core.PodStatus) bool {
		waiting := container(s, "main").State.Waiting
		return waiting != nil && waiting.Reason == "ImagePullBackOff"
	})
}

// steleKilledCreating: the daemon is killed while the runtime makes a container, and the kubelet's
// call breaks. The pod gets that container all the same, as the first of its name.
func steleKilledCreating(c *cluster) {
	class := c.class("slow", "slow")
	if err := os.WriteFile(c.slow, nil, 0o644); err != nil {
		c.t.Fatal(err)
	}
	m := withScratch(manifest("killed-creating", c.shell("main", "echo life >>/share/lives; exec sleep 3600")))
	m.Spec.RuntimeClassName = &class
	p := c.create(m)
	c.until("the runtime makes a container", func() error { _, err := os.Stat(c.slow + ".begun"); return err })
	c.Daemon.Kill9()
	c.Daemon.Start()
	if err := os.Remove(c.slow); err != nil {
		c.t.Fatal(err)
	}
	status := p.wait("is ready", ready)
	same(c.t, "restarts", container(status, "main").RestartCount, 0)
	same(c.t, "containers", len(p.containers()), 1)
	same(c.t, "sandboxes", len(p.sandboxes()), 1)
	same(c.t, "lives", p.exec("main", "cat", "/share/lives"), "life")
}

// drained: what kubectl drain asks for. The pod ends in its time.
func drained(c *cluster) {
	main := c.shell("main", "trap 'echo done >/share/done; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
	dir, volume := c.share("drained", &main)
	m := manifest("drained", main)
	grace := int64(120)
	m.Spec.Volumes, m.Spec.TerminationGracePeriodSeconds = []core.Volume{volume}, &grace
	p := c.runReady(m)
	p.waitLog("main", "ready")
	eviction := &policy.Eviction{ObjectMeta: meta.ObjectMeta{Name: p.name, Namespace: namespace}}
	if err := c.api.PolicyV1().Evictions(namespace).Evict(c.t.Context(), eviction); err != nil {
		c.t.Fatal(err)
	}
	c.until("the object is gone", func() error { return c.objectGone(p) })
	c.waitFile(filepath.Join(dir, "done"), "done")
}

// pressed: the kubelet evicts what runs on a node without memory to spare, and says how much the
// pod used: without the runtime's figures it could not choose.
func pressed(c *cluster) {
	main := c.shell("main", "exec sleep 3600")
	// Only what asked for memory is admitted again by a kubelet that has none.
	main.Resources.Requests = amounts("1m", "4Ki")
	p := c.runReady(manifest("pressed", main))
	c.stopKubelet()
	c.configure(map[string]any{"evictionHard": map[string]string{"memory.available": "99%"}})
	c.startKubelet()
	status := p.wait("has Failed", func(s core.PodStatus) bool { return s.Phase == core.PodFailed })
	same(c.t, "reason", status.Reason, "Evicted")
	for _, want := range []string{"low on resource: memory", "Container main was using"} {
		if !strings.Contains(status.Message, want) {
			c.t.Errorf("the message is %q, without %q", status.Message, want)
		}
	}
	p.waitEnded()
	c.stopKubelet()
	c.configure(nil)
	c.startKubelet()
}
