package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// TestImageVariants pulls and runs an image of every kind.
func TestImageVariants(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	pod := h.RunPod(h.PodConfig("variants"))
	b := &builder{t: t, below: map[packing]v1.Layer{}}
	for group, variants := range map[string][]variant{
		"formats": formatVariants(), "users": userVariants(), "configurations": configurationVariants(), "layers": layerVariants(),
	} {
		t.Run(group, func(t *testing.T) {
			for _, v := range variants {
				t.Run(v.name, func(t *testing.T) { v.try(t, h.In(t), pod, b) })
			}
		})
	}
	t.Run("other platforms", func(t *testing.T) { otherPlatforms(t, h.In(t)) })
	t.Run("missing users", func(t *testing.T) { missingUsers(t, h.In(t), pod, b) })
	t.Run("stop signal", func(t *testing.T) { imageStopSignal(t, h.In(t), pod, b) })
	t.Run("attributes and privileges", func(t *testing.T) { attributesAndPrivileges(t, h.In(t), pod) })
	t.Run("volumes", func(t *testing.T) { volumesOfImages(t, h.In(t), pod, b) })
	t.Run("names", func(t *testing.T) { namesOfImages(t, h.In(t), b) })
	all, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.Images) != 2 {
		t.Errorf("%d images are left, %v; want busybox and the tester", len(all.GetImages()), err)
	}
	pod.Remove()
	h.Audit()
}

// variant is an image to pull, inspect and run.
type variant struct {
	name string
	// spec is the image's content beside busybox's files.
	spec images.Spec
	// push, if not nil, puts the image, or a conversion, into the registry, and returns its
	// name and digest there.
	push func(t *testing.T, h *Harness, path string, image v1.Image) (ref, digest string)
	// command and args are the container's. If both are empty, the image's own runs.
	command, args []string
	// want are the container's lines of output before it ends with code.
	want []string
	code int32
}

// builder makes images on busybox, which it packs only once for each format.
type builder struct {
	t     *testing.T
	below map[packing]v1.Layer
}

type packing struct {
	images.Format
	images.Compression
}

func (b *builder) build(spec images.Spec) v1.Image {
	b.t.Helper()
	as := packing{spec.Format, spec.Compression}
	if b.below[as] == nil {
		base := images.Build(b.t, images.Spec{Format: spec.Format, Compression: spec.Compression, Layers: [][]images.File{images.BusyboxFiles(b.t)}})
		layers, err := base.Layers()
		if err != nil {
			b.t.Fatal(err)
		}
		b.below[as] = layers[0]
	}
	spec.Below = []v1.Layer{b.below[as]}
	spec.Config.Env = append([]string{"PATH=/bin"}, spec.Config.Env...)
	return images.Build(b.t, spec)
}

// try pulls the image, checks its status, runs it in the pod, and removes it.
func (v variant) try(t *testing.T, h *Harness, pod *Pod, b *builder) {
	t.Helper()
	image, name := b.build(v.spec), strings.ReplaceAll(v.name, " ", "-")
	ref, digest := "", digestOf(t, image)
	if v.push == nil {
		ref = h.Registry.Push(t, "variants/"+name+":v1", image)
	} else {
		ref, digest = v.push(t, h, "variants/"+name, image)
	}
	id := h.Pull(ref)
	if again := h.Pull(ref); again != id {
		t.Errorf("the second pull gives %s, the first gave %s", again, id)
	}
	v.expectStatus(t, h, pulledImage{ref, id, digest})

	config := h.ContainerConfig(name)
	config.Image.Image, config.Image.UserSpecifiedImage = id, ref
	config.Command, config.Args = v.command, v.args
	container := pod.Run(config)
	if ended := h.WaitExit(container); ended.ExitCode != v.code {
		t.Errorf("the exit code is %d, want %d", ended.ExitCode, v.code)
	}
	if got := pod.said(config); !slices.Equal(got, v.want) {
		t.Errorf("the container said\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(v.want, "\n"))
	}
	h.RemoveContainer(container)
	h.RemoveImage(id)
	if found := h.ImageStatus(ref); found != nil {
		t.Errorf("after its removal there is %v", found)
	}
}

type pulledImage struct{ ref, id, digest string }

// expectStatus checks the image's status.
func (v variant) expectStatus(t *testing.T, h *Harness, pulled pulledImage) {
	t.Helper()
	found := h.ImageStatus(pulled.ref)
	if found.GetId() != pulled.id {
		t.Fatalf("the status of %s is %v, want the id %s", pulled.ref, found, pulled.id)
	}
	var tags []string // none, if it was pulled by its digest
	if !strings.Contains(pulled.ref, "@") {
		tags = []string{pulled.ref}
	}
	if !slices.Equal(found.RepoTags, tags) {
		t.Errorf("the tags are %q, want %q", found.RepoTags, tags)
	}
	if !slices.ContainsFunc(found.RepoDigests, func(d string) bool { return strings.HasSuffix(d, "@"+pulled.digest) }) {
		t.Errorf("the digests are %q, want %s among them", found.RepoDigests, pulled.digest)
	}
	for _, same := range append(found.RepoDigests, pulled.id) {
		if found := h.ImageStatus(same); found.GetId() != pulled.id {
			t.Errorf("the status of %s is %v", same, found)
		}
	}
	size := 0
	for _, layer := range v.spec.Layers {
		for _, file := range layer {
			size += len(file.Content)
		}
	}
	if found.Size <= uint64(size) {
		t.Errorf("the size is %d, its files alone have more than %d", found.Size, size)
	}
	user, _, _ := strings.Cut(v.spec.Config.User, ":")
	if number, err := strconv.ParseInt(user, 10, 64); err == nil {
		if found.Uid == nil || found.Uid.Value != number || found.Username != "" {
			t.Errorf("the user is %v, %q; want %d", found.Uid, found.Username, number)
		}
	} else if found.Uid != nil || found.Username != user {
		t.Errorf("the user is %v, %q; want %q", found.Uid, found.Username, user)
	}
}

// formatVariants are one image in all forms that registries have.
func formatVariants() []variant {
	mark := [][]images.File{{{Path: "marker", Mode: 0o644, Content: []byte("here\n")}}}
	converted := func(form images.Form) func(*testing.T, *Harness, string, v1.Image) (string, string) {
		return func(t *testing.T, h *Harness, path string, image v1.Image) (string, string) {
			ref := h.Registry.Convert(t, h.Registry.Push(t, path+":plain", image), path+":v1", form)
			return ref, h.Registry.Digest(t, ref)
		}
	}
	index := func(format images.Format) func(*testing.T, *Harness, string, v1.Image) (string, string) {
		return func(t *testing.T, h *Harness, path string, image v1.Image) (string, string) {
			foreign := images.Build(t, images.Spec{Format: format, Platform: images.Elsewhere(), Layers: mark})
			index := images.Index(t, format, foreign, image)
			return h.Registry.PushIndex(t, path+":v1", index), digestOf(t, index)
		}
	}
	all := []variant{
		{name: "OCI", spec: images.Spec{}},
		{name: "OCI without compression", spec: images.Spec{Compression: images.Uncompressed}},
		{name: "OCI with zstd", spec: images.Spec{Compression: images.Zstd}},
		{name: "OCI with zstd chunked", push: converted(images.ZstdChunked)},
		{name: "OCI index", push: index(images.OCI)},
		{name: "Docker schema 2", spec: images.Spec{Format: images.Docker}},
		{name: "Docker without compression", spec: images.Spec{Format: images.Docker, Compression: images.Uncompressed}},
		{name: "Docker list", spec: images.Spec{Format: images.Docker}, push: index(images.Docker)},
		{name: "Docker schema 1", spec: images.Spec{Format: images.Docker}, push: converted(images.Schema1)},
		{name: "by digest", push: func(t *testing.T, h *Harness, path string, image v1.Image) (string, string) {
			ref := h.Registry.Push(t, path+":v1", image)
			return strings.TrimSuffix(ref, ":v1") + "@" + digestOf(t, image), digestOf(t, image)
		}},
	}
	for i := range all {
		all[i].spec.Layers, all[i].command, all[i].want = mark, []string{"cat", "/marker"}, []string{"here"}
		all[i].name = strings.ToLower(all[i].name)
	}
	return all
}

// userVariants have a user, written in all ways. Busybox's app is 1000, and in the groups
// 2000 and 2001.
func userVariants() []variant {
	var all []variant
	for user, ids := range map[string][]string{
		"1002":       {"1002", "0", "0"},
		"1003:1004":  {"1003", "1004", "1004"},
		"1000":       {"1000", "1000", "1000 2000 2001"},
		"app":        {"1000", "1000", "1000 2000 2001"},
		"app:1004":   {"1000", "1004", "1004 2000 2001"},
		"app:extra":  {"1000", "2000", "2000 2001"},
		"1002:extra": {"1002", "2000", "2000"},
	} {
		all = append(all, variant{
			name: "user " + strings.ReplaceAll(user, ":", " and "), spec: images.Spec{Config: v1.Config{User: user}},
			command: []string{"sh", "-c", "id -u; id -g; id -G"}, want: ids,
		})
	}
	return all
}

// configurationVariants have a command, a directory and an environment.
func configurationVariants() []variant {
	speaks := v1.Config{Entrypoint: []string{"sh", "-c", `echo "$0" "$#" "$1"`}, Cmd: []string{"two words", "more"}}
	return []variant{
		{name: "entrypoint and command", spec: images.Spec{Config: speaks}, want: []string{"two words 1 more"}},
		{name: "entrypoint and other arguments", spec: images.Spec{Config: speaks}, args: []string{"own"}, want: []string{"own 0 "}},
		{name: "other command", spec: images.Spec{Config: speaks}, command: []string{"echo", "own"}, want: []string{"own"}},
		{name: "exit code", spec: images.Spec{Config: v1.Config{Cmd: []string{"sh", "-c", "exit 41"}}}, code: 41},
		{
			name: "environment and directory",
			spec: images.Spec{Config: v1.Config{
				Env: []string{"LAB=yes", "EMPTY="}, WorkingDir: "/work/dir", Labels: map[string]string{"lab.test/one": "1", "lab.test/empty": ""},
				ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			}},
			command: []string{"sh", "-c", `pwd; echo "$LAB${EMPTY-unset}"`}, want: []string{"/work/dir", "yes"},
		},
	}
}

// otherPlatforms: an image that cannot run here is refused before anything is fetched.
func otherPlatforms(t *testing.T, h *Harness) {
	for name, format := range map[string]images.Format{"oci": images.OCI, "docker": images.Docker} {
		here := images.Here()
		windows := images.Build(t, images.Spec{
			Format: format, Platform: v1.Platform{OS: "windows", Architecture: here.Architecture}, Layers: [][]images.File{{directory("d")}},
		})
		foreign := images.Build(t, images.Spec{Format: format, Platform: images.Elsewhere(), Layers: [][]images.File{{directory("d")}}})
		for ref, there := range map[string]v1.Platform{
			h.Registry.Push(t, "foreign/"+name+":v1", windows):                                  {OS: "windows", Architecture: here.Architecture},
			h.Registry.PushIndex(t, "foreign/"+name+":index", images.Index(t, format, foreign)): images.Elsewhere(),
		} {
			_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
			h.Refused(err, codes.FailedPrecondition, ref, "not for this platform", here.OS+"/"+here.Architecture, there.OS+"/"+there.Architecture)
			if found := h.ImageStatus(ref); found != nil {
				t.Errorf("it is there: %v", found)
			}
		}
	}
}

// namesOfImages: registries.conf completes short names, and its changes take effect at
// once.
func namesOfImages(t *testing.T, h *Harness, b *builder) {
	image := b.build(images.Spec{Layers: [][]images.File{{{Path: "named", Mode: 0o644}}}})
	full := h.Registry.Push(t, "names/deep/app:v1", image)
	h.write(h.Registry.RegistriesConfDir+"/50-alias.conf", fmt.Sprintf("[aliases]\n\"little\" = %q\n", h.Registry.Host+"/names/deep/app"))
	digest := digestOf(t, image)
	id := h.Pull(full)
	for _, ref := range []string{"little:v1", "names/deep/app:v1", "little@" + digest, full + "@" + digest} {
		if got := h.Pull(ref); got != id {
			t.Errorf("%s is %s, want %s", ref, got, id)
		}
		found := h.ImageStatus(ref)
		if found.GetId() != id {
			t.Errorf("the status of %s is %v, want %s", ref, found, id)
		}
		names := append(found.GetRepoTags(), found.GetRepoDigests()...)
		for _, name := range names {
			if !strings.HasPrefix(name, h.Registry.Host+"/names/deep/app") {
				t.Errorf("%s became %q", ref, names)
			}
		}
	}
	h.RemoveImage(id)
	_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "unknown-alias:v1"}})
	h.Refused(err, codes.NotFound, "unknown-alias:v1")
}
