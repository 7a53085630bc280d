package kubelet

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/stele-runtime/stele/test/images"
)

func emptyDirs(n *node) {
	size := resource.MustParse("8Mi")
	writer, reader := n.shell("writer", "echo shared >/disk/file; echo quick >/memory/file; while :; do sleep 1; done"), n.shell("reader", "while :; do sleep 1; done")
	m := manifest("emptydirs", writer, reader)
	m.Spec.Volumes = []core.Volume{
		{Name: "disk", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{}}},
		{Name: "memory", VolumeSource: core.VolumeSource{EmptyDir: &core.EmptyDirVolumeSource{Medium: core.StorageMediumMemory, SizeLimit: &size}}},
	}
	for i := range m.Spec.Containers {
		m.Spec.Containers[i].VolumeMounts = []core.VolumeMount{{Name: "disk", MountPath: "/disk"}, {Name: "memory", MountPath: "/memory"}}
	}
	p := n.run(m)
	same(n.t, "files of the other container", p.exec("reader", "sh", "-c", "until [ -s /disk/file -a -s /memory/file ]; do sleep 0.1; done; cat /disk/file /memory/file"), "shared\nquick")
	same(n.t, "file system of the memory", p.exec("reader", "stat", "-f", "-c", "%T", "/memory"), "tmpfs")
	same(n.t, "size of the memory in KiB", strings.Fields(p.exec("reader", "sh", "-c", "df -k /memory | tail -1"))[1], "8192")
}

func hostPaths(n *node) {
	main := n.shell("main", "while :; do sleep 1; done")
	main.VolumeMounts = []core.VolumeMount{
		{Name: "dir", MountPath: "/dir"},
		{Name: "dir", MountPath: "/sub", SubPath: "deep/er", ReadOnly: true},
		{Name: "dir", MountPath: "/expanded", SubPathExpr: "of-$(NAME)"},
		{Name: "file", MountPath: "/etc/from-host"},
	}
	main.Env = []core.EnvVar{{Name: "NAME", ValueFrom: &core.EnvVarSource{FieldRef: &core.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
	dir := n.path("hostpaths")
	for _, path := range []string{dir, filepath.Join(dir, "deep", "er")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"top": "top", "deep/er/low": "low", "single": "single"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	directory, file := core.HostPathDirectory, core.HostPathFile
	m := manifest("hostpaths", main)
	m.Spec.Volumes = []core.Volume{
		{Name: "dir", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: dir, Type: &directory}}},
		{Name: "file", VolumeSource: core.VolumeSource{HostPath: &core.HostPathVolumeSource{Path: filepath.Join(dir, "single"), Type: &file}}},
	}
	p := n.run(m)
	same(n.t, "files", p.exec("main", "cat", "/dir/top", "/sub/low", "/etc/from-host"), "toplowsingle")
	if out, err := p.tryExec("main", "touch", "/sub/new"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		n.t.Errorf("a file in a read-only sub-path: %q, %v", out, err)
	}
	p.exec("main", "sh", "-c", "echo back >/expanded/file")
	n.waitFile(filepath.Join(dir, "of-"+p.name, "file"), "back")
}

func downward(n *node) {
	main := n.shell("main", "while :; do sleep 1; done")
	field := func(path string) *core.ObjectFieldSelector {
		return &core.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}
	}
	env := func(name, path string) core.EnvVar {
		return core.EnvVar{Name: name, ValueFrom: &core.EnvVarSource{FieldRef: field(path)}}
	}
	main.Env = []core.EnvVar{
		env("POD", "metadata.name"), env("IP", "status.podIP"),
		{Name: "LIMIT", ValueFrom: &core.EnvVarSource{ResourceFieldRef: &core.ResourceFieldSelector{Resource: "limits.memory"}}},
	}
	main.Resources.Limits = core.ResourceList{core.ResourceMemory: resource.MustParse("64Mi")}
	main.VolumeMounts = []core.VolumeMount{{Name: "info", MountPath: "/info"}}
	m := manifest("downward", main)
	m.Labels = map[string]string{"colour": "blue"}
	mode := int32(0o440)
	labels := []core.DownwardAPIVolumeFile{{Path: "labels", FieldRef: field("metadata.labels"), Mode: &mode}}
	m.Spec.Volumes = []core.Volume{{Name: "info", VolumeSource: core.VolumeSource{DownwardAPI: &core.DownwardAPIVolumeSource{Items: labels}}}}
	p := n.run(m)
	same(n.t, "environment", p.exec("main", "sh", "-c", "echo $POD $IP $LIMIT"), p.name+" "+p.status().PodIP+" 67108864")
	same(n.t, "labels", p.exec("main", "cat", "/info/labels"), `colour="blue"`)
	same(n.t, "mode of the labels", p.exec("main", "stat", "-L", "-c", "%a", "/info/labels"), "440")
}

func imageVolumes(n *node) {
	data := n.Registry.Push(n.t, "kubelet/data:latest", images.Build(n.t, images.Spec{Config: v1.Config{}, Layers: [][]images.File{{
		{Path: "dir", Mode: fs.ModeDir | 0o755}, {Path: "dir/file", Mode: 0o644, Content: []byte("from the image")},
	}}}))
	main := n.shell("main", "while :; do sleep 1; done")
	main.VolumeMounts = []core.VolumeMount{{Name: "image", MountPath: "/image"}, {Name: "image", MountPath: "/sub", SubPath: "dir"}}
	m := manifest("image-volume", main)
	m.Spec.Volumes = []core.Volume{{Name: "image", VolumeSource: core.VolumeSource{
		Image: &core.ImageVolumeSource{Reference: data, PullPolicy: core.PullIfNotPresent},
	}}}
	p := n.run(m)
	same(n.t, "files", p.exec("main", "cat", "/image/dir/file", "/sub/file"), "from the imagefrom the image")
	if out, err := p.tryExec("main", "touch", "/image/new"); err == nil || !strings.Contains(err.Error(), "Read-only") {
		n.t.Errorf("a file in an image volume: %q, %v", out, err)
	}
}
