package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// pullPatience is the daemon's pull_progress_timeout here, long enough for a busy
// machine to send something.
const pullPatience = 4 * time.Second

// TestPullFaults: whatever a registry, or the disk, does to a pull, the caller learns the
// cause, nothing is left, and the next pull works.
func TestPullFaults(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{
		Image:       fmt.Sprintf("pull_progress_timeout = %q\npull_retries = 0\n", pullPatience),
		StorageSize: "48m",
	})
	f := newFaults(t, h)
	for group, cases := range map[string][]pullFault{
		"transfers": f.transfers(), "manifests": f.manifests(), "layers": f.layers(t),
	} {
		t.Run(group, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { f.try(t, h.In(t), c) })
			}
		})
	}
	t.Run("hostile layers, CVE-2021-32760, CVE-2025-47290, CVE-2024-9676", func(t *testing.T) { f.hostileLayers(t, h.In(t)) })
	t.Run("devices", func(t *testing.T) { devicesOfLayers(t, h.In(t)) })
	t.Run("nobody listens", func(t *testing.T) { f.nobodyListens(t, h.In(t)) })
	t.Run("disk full", func(t *testing.T) { f.diskFull(t, h.In(t)) })
	f.expectEvents(t, h)
	h.Audit()
}

// faults is a registry behind a proxy that spoils its answers, with an image to pull.
type faults struct {
	proxy *images.Proxy
	image v1.Image
	layer string // part of the URL of the image's one layer
	// failed are the pulls that have failed, in order.
	failed []failedPull
}

type failedPull struct {
	ref  string
	code codes.Code
}

// pullFault is a pull that must fail.
type pullFault struct {
	name string
	// image replaces the usual one.
	image  v1.Image
	spoil  func(*http.Request) images.Fault
	code   codes.Code
	reason string // a part of the message
}

func newFaults(t *testing.T, h *Harness) *faults {
	t.Helper()
	f := &faults{proxy: images.Front(t, h.Registry), image: images.Build(t, images.Spec{Layers: [][]images.File{{
		{Path: "content", Mode: 0o644, Content: noise(1 << 20)},
	}}})}
	f.layer = "/blobs/" + layerDigest(t, f.image)
	h.write(filepath.Join(h.Registry.RegistriesConfDir, "50-proxy.conf"), fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", f.proxy.Host))
	return f
}

func layerDigest(t testing.TB, image v1.Image) string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) == 0 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	return digestOf(t, layers[len(layers)-1])
}

// at spoils the answers for paths that contain the part.
func at(part string, fault images.Fault) func(*http.Request) images.Fault {
	return func(r *http.Request) images.Fault {
		if strings.Contains(r.URL.Path, part) {
			return fault
		}
		return images.Fault{}
	}
}

// try pulls an image that is spoilt, and then the usual one unspoilt.
func (f *faults) try(t *testing.T, h *Harness, c pullFault) {
	t.Helper()
	image := c.image
	if image == nil {
		image = f.image
	}
	_, tag, _ := strings.Cut(h.Registry.Push(t, "faults/app:"+strings.ReplaceAll(c.name, " ", "-"), image), "/")
	ref := f.proxy.Host + "/" + tag
	before := h.bulk()
	f.proxy.Spoil(c.spoil)
	_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	f.proxy.Spoil(nil)
	f.expectFailed(h, err, failedPull{ref, c.code}, c.reason)
	h.expectNothingCame(before, ref)
	if c.image != nil {
		_, tag, _ = strings.Cut(h.Registry.Push(t, "faults/app:good", f.image), "/")
		ref = f.proxy.Host + "/" + tag
	}
	h.RemoveImage(h.Pull(ref))
}

// unreachable begins the message if the registry is to blame; the kubelet knows the word.
const unreachable = "RegistryUnavailable: "

// expectFailed checks an error, and records it for expectEvents.
func (f *faults) expectFailed(h *Harness, err error, failed failedPull, reason string) {
	h.t.Helper()
	h.Refused(err, failed.code, failed.ref, reason)
	message := status.Convert(err).Message()
	blamed := failed.code == codes.Unavailable || failed.code == codes.DeadlineExceeded
	if strings.HasPrefix(message, unreachable) != blamed || len(message) > 10_000 {
		h.t.Errorf("the message is %q", message)
	}
	f.failed = append(f.failed, failed)
}

// bulk lists the daemon's files that are big enough to be parts of a layer.
func (h *Harness) bulk() []string {
	h.t.Helper()
	const big = 200 << 10
	var found []string
	for _, dir := range []string{filepath.Join(h.Root, "storage"), filepath.Join(h.Root, "images")} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if err == nil && info.Size() >= big {
				found = append(found, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.t.Fatal(err)
		}
	}
	return found
}

// expectNothingCame checks that a pull that failed has left nothing.
func (h *Harness) expectNothingCame(before []string, ref string) {
	h.t.Helper()
	all, err := h.Images.ListImages(h.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil || len(all.Images) != 2 {
		h.t.Errorf("there are %d images, %v; want busybox and the tester", len(all.GetImages()), err)
	}
	if found := h.ImageStatus(ref); found != nil {
		h.t.Errorf("%s is there: %v", ref, found)
	}
	if after := h.bulk(); !slices.Equal(before, after) {
		h.t.Errorf("files came or went: there are\n%s\nand were\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	h.Audit()
}

// transfers are faults of a registry with a good image.
func (f *faults) transfers() []pullFault {
	again := http.Header{"Retry-After": {"0"}}
	return []pullFault{
		{name: "manifest cut", spoil: at("/manifests/", images.Fault{Cut: true, After: 30}), code: codes.Unavailable, reason: "EOF"},
		{name: "layer cut", spoil: at(f.layer, images.Fault{Cut: true, After: 400 << 10}), code: codes.Unavailable, reason: "EOF"},
		{name: "401", spoil: at("/manifests/", images.Fault{Status: 401}), code: codes.Unauthenticated, reason: "not authorized"},
		{name: "403", spoil: at("/manifests/", images.Fault{Status: 403}), code: codes.Unauthenticated, reason: "not authorized"},
		{name: "404", spoil: at("/manifests/", images.Fault{Status: 404}), code: codes.NotFound, reason: "not found"},
		{name: "404 for a layer", spoil: at(f.layer, images.Fault{Status: 404}), code: codes.NotFound, reason: "404"},
		{name: "429", spoil: at("/manifests/", images.Fault{Status: 429, Header: again}), code: codes.ResourceExhausted, reason: "rate limited"},
		{name: "429 for a layer", spoil: at(f.layer, images.Fault{Status: 429, Header: again}), code: codes.ResourceExhausted, reason: "rate limited"},
		{name: "500", spoil: at("/manifests/", images.Fault{Status: 500, Body: "oh"}), code: codes.Unavailable, reason: "500"},
		{name: "502 for a layer", spoil: at(f.layer, images.Fault{Status: 502}), code: codes.Unavailable, reason: "502"},
		{name: "silence", spoil: at(f.layer, images.Fault{Hang: true, After: 400 << 10}), code: codes.DeadlineExceeded, reason: "nothing came"},
		{name: "slow drip", spoil: at(f.layer, images.Fault{Drip: 2 * pullPatience}), code: codes.DeadlineExceeded, reason: "nothing came"},
	}
}

// manifests are manifests of no image.
func (f *faults) manifests() []pullFault {
	answer := func(kind types.MediaType, body string) func(*http.Request) images.Fault {
		return at("/manifests/", images.Fault{Status: 200, Header: http.Header{"Content-Type": {string(kind)}}, Body: body})
	}
	layer := fmt.Sprintf(`{"mediaType": %q, "digest": "sha256:%064d", "size": 1}`, types.OCILayer, 0)
	config := fmt.Sprintf(`{"mediaType": %q, "digest": "sha256:%064d", "size": 1}`, types.OCIConfigJSON, 0)
	many := fmt.Sprintf(`{"schemaVersion": 2, "config": %s, "layers": [%s%s]}`, config, strings.Repeat(layer+",", 5000), layer)
	return []pullFault{
		{name: "endless", spoil: answer(types.OCIManifestSchema1, strings.Repeat(" ", 8<<20)), code: codes.FailedPrecondition, reason: "exceeded maximum"},
		{name: "too many layers", spoil: answer(types.OCIManifestSchema1, many), code: codes.FailedPrecondition, reason: "5001 layers"},
		{name: "deep", spoil: answer(types.OCIManifestSchema1, `{"schemaVersion": 2, "annotations": `+strings.Repeat(`{"a":`, 500_000)), code: codes.FailedPrecondition, reason: "invalid"},
		{name: "no manifest", spoil: answer(types.OCIManifestSchema1, "<html>"), code: codes.FailedPrecondition, reason: "invalid"},
		{name: "empty index", spoil: answer(types.OCIImageIndex, `{"schemaVersion": 2, "manifests": []}`), code: codes.FailedPrecondition, reason: "no platforms"},
	}
}

// layers are layers that are wrong.
func (f *faults) layers(t *testing.T) []pullFault {
	config, err := f.image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	const wrong = "Digest did not match"
	whole := layerContent(t, f.image)
	return []pullFault{
		{name: "wrong layer", spoil: at(f.layer, images.Fault{Replace: noise(len(whole))}), code: codes.FailedPrecondition, reason: wrong},
		{name: "truncated layer", spoil: at(f.layer, images.Fault{Replace: whole[:len(whole)/2]}), code: codes.FailedPrecondition, reason: wrong},
		{name: "longer layer", spoil: at(f.layer, images.Fault{Replace: append(whole, 0)}), code: codes.FailedPrecondition, reason: wrong},
		{name: "wrong configuration", spoil: at("/blobs/"+config.String(), images.Fault{Replace: []byte("{}")}), code: codes.FailedPrecondition, reason: "does not match"},
		{name: "no archive", image: withLayer(t, noise(300<<10)), code: codes.FailedPrecondition, reason: "tar"},
	}
}

func layerContent(t testing.TB, image v1.Image) []byte {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	packed, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	content, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// withLayer is an image with one layer, of any content.
func withLayer(t testing.TB, content []byte) v1.Image {
	t.Helper()
	return images.Append(t, images.Build(t, images.Spec{}), static.NewLayer(content, types.OCILayer))
}

// hostileLayers try to write outside of the image, or have devices. What is not refused
// must be harmless.
func (f *faults) hostileLayers(t *testing.T, h *Harness) {
	outside := filepath.Join(t.TempDir(), "outside")
	kept := filepath.Join(filepath.Dir(outside), "kept")
	h.write(kept, "secret of the node")
	up := strings.Repeat("../", 30)
	write := func(path string) images.File { return images.File{Path: path, Mode: 0o644, Content: []byte("x")} }
	link := func(target string) images.File {
		return images.File{Path: "out", Mode: fs.ModeSymlink | 0o777, Target: target}
	}
	for name, files := range map[string][]images.File{
		"parent":         {write(up + outside[1:])},
		"absolute":       {write(outside)},
		"link and write": {link(filepath.Dir(outside)), write("out/outside")},
		"relative link":  {link(up + filepath.Dir(outside)[1:]), write("out/outside")},
		// The mode of what a link leads to is left alone (CVE-2021-32760).
		"link and mode": {link(kept), {Path: "in", Mode: 0o777 | fs.ModeSetuid, HardLink: "out"}},
		// /etc is a link when the next layer's files arrive (CVE-2025-47290).
		"link in the way":    {{Path: "etc", Mode: fs.ModeSymlink | 0o777, Target: filepath.Dir(outside)}, write("etc/outside")},
		"hard link":          {{Path: "stolen", Mode: 0o644, HardLink: up + kept[1:]}},
		"whiteout of parent": {images.Whiteout(up + kept[1:])},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.In(t)
			before := h.bulk()
			ref := h.Registry.Push(t, "hostile/"+strings.ReplaceAll(name, " ", "-")+":v1", images.Build(t, images.Spec{Layers: [][]images.File{files}}))
			_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
			if err == nil {
				h.RemoveImage(ref)
			} else if !strings.Contains(err.Error(), ref) || !strings.Contains(err.Error(), "unpacking failed") {
				t.Errorf("the refusal is %v", err)
			}
			h.expectNothingCame(before, ref)
			if _, err := os.Lstat(outside); err == nil {
				t.Error("a file outside was written")
				_ = os.Remove(outside)
			}
			var stat unix.Stat_t
			if err := unix.Lstat(kept, &stat); err != nil || stat.Nlink != 1 || stat.Mode&0o7111 != 0 {
				t.Errorf("a file outside was removed, or has %d links and mode %#o: %v", stat.Nlink, stat.Mode, err)
			}
		})
	}
}

// devicesOfLayers: an image may have any device, and a container cannot open it.
func devicesOfLayers(t *testing.T, h *Harness) {
	const device, character = fs.ModeDevice | 0o666, fs.ModeDevice | fs.ModeCharDevice | 0o666
	id := h.Pull(h.Registry.Push(t, "hostile/devices:v1", images.Build(t, images.Spec{
		Config: v1.Config{Env: []string{"PATH=/bin"}},
		Layers: [][]images.File{images.BusyboxFiles(t), {
			{Path: "memory", Mode: character, Major: 1, Minor: 1}, {Path: "ram", Mode: device, Major: 1, Minor: 0},
			{Path: "log", Mode: character, Major: 1, Minor: 11}, {Path: "null", Mode: character, Major: 1, Minor: 3},
		}},
	})))
	pod := h.RunPod(h.PodConfig("devices"))
	config := h.ContainerConfig("devices")
	config.Image.Image = id
	container := pod.Run(config)
	for _, name := range []string{"memory", "ram", "log"} {
		if answer := h.ExecSync(container, "head", "-c", "1", "/"+name); answer.ExitCode == 0 || !strings.Contains(string(answer.Stderr), "not permitted") {
			t.Errorf("reading /%s ends with %d: %q", name, answer.ExitCode, answer.Stderr)
		}
	}
	h.Exec(container, "head", "-c", "1", "/null") // every container may, so that the others were refused for what they are
	pod.Remove()
	h.RemoveImage(id)
}

func (f *faults) nobodyListens(t *testing.T, h *Harness) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ref := listener.Addr().String() + "/app:v1"
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	f.expectFailed(h, err, failedPull{ref, codes.Unavailable}, "connection refused")
}

// diskFull: a pull that doesn't fit fails and frees the space of its first layers, others
// go on, and it works once there is room.
func (f *faults) diskFull(t *testing.T, h *Harness) {
	big := h.Registry.Push(t, "faults/big:v1", images.Build(t, images.Spec{Layers: [][]images.File{
		{{Path: "fits", Mode: 0o644, Content: noise(1 << 20)}}, {{Path: "content", Mode: 0o644, Content: noise(6 << 20)}},
	}}))
	small := h.Registry.Push(t, "faults/small:v1", images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "small", Mode: 0o644}}}}))
	filler := filepath.Join(h.storage(), "filler")
	h.fill(filler, 3<<20)
	before := h.bulk()
	_, err := h.Images.PullImage(h.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: big}})
	f.expectFailed(h, err, failedPull{big, codes.Internal}, "no space left on device")
	h.expectNothingCame(before, big)
	h.RemoveImage(h.Pull(small))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.RemoveImage(h.Pull(big))
}

// fill fills a file system but for a number of bytes.
func (h *Harness) fill(path string, leave int64) {
	h.t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &stat); err != nil {
		h.t.Fatal(err)
	}
	file, err := os.Create(path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, int64(stat.Bavail)*stat.Bsize-leave); err != nil {
		h.t.Fatalf("fill the file system: %v", err)
	}
}

// expectEvents looks for the failures in the history.
func (f *faults) expectEvents(t *testing.T, h *Harness) {
	t.Helper()
	kinds := map[codes.Code]string{
		codes.Unavailable: "unavailable", codes.DeadlineExceeded: "deadline", codes.Unauthenticated: "unauthorized", codes.NotFound: "not found",
		codes.ResourceExhausted: "rate limited", codes.FailedPrecondition: "precondition", codes.Internal: "internal",
	}
	told := map[string]string{}
	for line := range strings.Lines(h.Stele("events", "--json")) {
		var event struct {
			Type   string
			Fields map[string]string
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("the event %q: %v", line, err)
		}
		if strings.Contains(event.Type, "PullFailed") && strings.Contains(event.Fields["fault.reason"], event.Fields["fault.subject"]) {
			told[event.Fields["fault.subject"]] = event.Fields["fault.kind"]
		}
	}
	for _, failed := range f.failed {
		if kind := told[failed.ref]; kind != kinds[failed.code] {
			t.Errorf("in the history the pull of %s failed as %q, want %q", failed.ref, kind, kinds[failed.code])
		}
	}
}
