package e2e

import (
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/test/images"
)

// layerVariants have layers that are easily unpacked wrong.
func layerVariants() []variant {
	text := func(path, content string) images.File {
		return images.File{Path: path, Mode: 0o644, Content: []byte(content)}
	}
	const layers, large = 12, 32 << 20
	content := noise(large)
	many := images.Spec{}
	for i := 1; i <= layers; i++ {
		number := strconv.Itoa(i)
		many.Layers = append(many.Layers, []images.File{directory("many"), text("many/"+number, number+"\n"), text("many/last", number+"\n")})
	}
	return []variant{
		{
			name: "whiteouts",
			spec: images.Spec{Layers: [][]images.File{
				{
					directory("l"), directory("l/gone"), text("l/gone/x", "1"), text("l/file", "1"), text("l/kept", "1"),
					directory("l/opaque"), text("l/opaque/old", "1"), directory("l/opaque/dir"), text("l/opaque/dir/x", "1"),
					directory("l/to-file"), text("l/to-file/x", "1"), text("l/to-directory", "1"), text("l/again", "1"),
				},
				{images.Whiteout("l/gone"), images.Whiteout("l/file"), images.Whiteout("l/again"), images.Whiteout("l/to-file"), images.Whiteout("l/to-directory")},
				{images.Opaque("l/opaque"), text("l/opaque/new", "2"), text("l/again", "2"), text("l/to-file", "2"), directory("l/to-directory"), text("l/to-directory/y", "2")},
			}},
			command: []string{"sh", "-c", "cd /l; find . -type f | sort; cat again to-file kept"},
			want:    []string{"./again", "./kept", "./opaque/new", "./to-directory/y", "./to-file", "221"},
		},
		{
			name: "links",
			spec: images.Spec{Layers: [][]images.File{{
				directory("l"), text("l/a", "one\n"), {Path: "l/b", HardLink: "l/a", Mode: 0o644}, {Path: "l/c", HardLink: "l/b", Mode: 0o644},
				{Path: "l/sym", Mode: fs.ModeSymlink | 0o777, Target: "a"}, {Path: "l/dangling", Mode: fs.ModeSymlink | 0o777, Target: "/nowhere"},
			}}},
			command: []string{"sh", "-c", "cd /l; test a -ef b && test b -ef c && stat -c %h a; cat sym; readlink dangling"},
			want:    []string{"3", "one", "/nowhere"},
		},
		{
			name: "modes and owners",
			spec: images.Spec{Layers: [][]images.File{{
				directory("l"), {Path: "l/setgid", Mode: fs.ModeDir | fs.ModeSetgid | 0o755}, {Path: "l/setuid", Mode: fs.ModeSetuid | 0o755, UID: 1000},
				{Path: "l/sticky", Mode: fs.ModeDir | fs.ModeSticky | 0o777}, {Path: "l/none"}, {Path: "l/owned", Mode: 0o640, UID: 65534, GID: 1234},
				{Path: "l/pipe", Mode: fs.ModeNamedPipe | 0o600}, text("l/space and ünïcode", "x"), directory("l/C:"), text("l/C:/colon", "x"), text("l/-dash", "x"),
			}}},
			command: []string{"sh", "-c", `cd /l; stat -c "%a %u:%g %F" setgid setuid sticky none owned pipe; cat "space and ünïcode" C:/colon ./-dash`},
			want: []string{
				"2755 0:0 directory", "4755 1000:0 regular empty file", "1777 0:0 directory", "0 0:0 regular empty file", "640 65534:1234 regular empty file",
				"600 0:0 fifo", "xxx",
			},
		},
		{
			name: "many layers", spec: many,
			command: []string{"sh", "-c", "ls /many | wc -l; cat /many/last /many/1"}, want: []string{strconv.Itoa(layers + 1), strconv.Itoa(layers), "1"},
		},
		{
			name: "a large layer", spec: images.Spec{Layers: [][]images.File{{{Path: "large", Mode: 0o644, Content: content}}}},
			command: []string{"sh", "-c", "sha256sum </large"}, want: []string{fmt.Sprintf("%x  -", sha256Of(content))},
		},
		{
			name: "an empty layer", spec: images.Spec{Layers: [][]images.File{{}, {text("marker", "here\n")}}},
			command: []string{"cat", "/marker"}, want: []string{"here"},
		},
	}
}

// directory is a directory's entry in a layer.
func directory(path string) images.File { return images.File{Path: path, Mode: fs.ModeDir | 0o755} }

// noise is content that doesn't compress, the same each time.
func noise(size int) []byte {
	content := make([]byte, size)
	rand.New(rand.NewSource(int64(size))).Read(content)
	return content
}

// attributesAndPrivileges: the image's extended attributes are kept; a program gets its
// file capabilities and its owner's rights, unless no_new_privs forbids it.
func attributesAndPrivileges(t *testing.T, h *Harness, pod *Pod) {
	// cap_net_raw+ep, as VFS_CAP_REVISION_2 has it.
	const capability, netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1 << 13
	program, err := os.ReadFile(programs.Tester)
	if err != nil {
		t.Fatal(err)
	}
	id := h.Pull(h.Registry.Push(t, "layers/attributes:v1", images.Build(t, images.Spec{
		Config: v1.Config{User: "1000", Entrypoint: []string{"/tester"}, Cmd: []string{"report"}},
		Layers: [][]images.File{{{
			Path: "tester", Mode: fs.ModeSetuid | 0o755, Content: program, UID: 1234,
			Xattrs: map[string]string{"security.capability": capability, "user.note": "of mine"},
		}}},
	})))
	configure := func(name string, args ...string) *runtimeapi.ContainerConfig {
		config := h.ContainerConfig(name)
		config.Image.Image, config.Command, config.Args = id, nil, args
		// Otherwise the kernel doesn't execute a program that claims it.
		config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_RAW"}}
		return config
	}
	for attribute, want := range map[string]string{"security.capability": capability, "user.note": "of mine"} {
		config := configure(attribute, "xattr", "/tester", attribute)
		h.WaitExit(pod.Run(config))
		if got := pod.said(config); !slices.Equal(got, []string{fmt.Sprintf("%x", want)}) {
			t.Errorf("the attribute %s is %q, want %x", attribute, got, want)
		}
	}
	for forbidden, effective := range map[bool]string{false: "1000 1234 1234 1234", true: "1000 1000 1000 1000"} {
		config := configure(fmt.Sprintf("no-new-privileges-%t", forbidden))
		config.Linux.SecurityContext.NoNewPrivs = forbidden
		report := pod.report(h, config)
		if got := strings.Join(strings.Fields(report.Status["Uid"]), " "); got != effective {
			t.Errorf("with no_new_privs %t the process has the user ids %s, want %s", forbidden, got, effective)
		}
		if caps, err := strconv.ParseUint(report.Status["CapEff"], 16, 64); err != nil || caps != netRaw {
			t.Errorf("with no_new_privs %t the process has the capabilities %s, want NET_RAW", forbidden, report.Status["CapEff"])
		}
	}
	h.removeContainers(pod)
	h.RemoveImage(id)
}
