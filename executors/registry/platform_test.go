package registry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

// spellings are what images call this machine's architecture.
func spellings(t *testing.T) []string {
	t.Helper()
	all := map[string][]string{
		"amd64": {"x86_64", "AMD64", "x86-64", "386", "i386"},
		"arm64": {"aarch64", "ARM64", "armv8"},
	}[runtime.GOARCH]
	if all == nil {
		t.Skipf("no other names of %s are known", runtime.GOARCH)
	}
	return all
}

// noted returns a node and its log.
func noted(t *testing.T, server *images.Server) (*node, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	return newNode(t, server, with(func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})), log
}

// TestArchitecturesAsDockerWritesThem: an image, and an index, with another name for this
// machine's architecture is this machine's.
func TestArchitecturesAsDockerWritesThem(t *testing.T) {
	server := images.Registry(t)
	for _, name := range spellings(t) {
		t.Run(name, func(t *testing.T) {
			n, log := noted(t, server)
			path := strings.ToLower(name)
			own := small(t, v1.Platform{OS: "linux", Architecture: name}, name)
			n.pull(t, server.Push(t, "spelled/"+path+":v1", own))
			for form, format := range map[string]images.Format{"oci": images.OCI, "docker": images.Docker} {
				index := images.Index(t, format, small(t, images.Elsewhere(), "far"), own)
				n.pull(t, server.PushIndex(t, "spelled/"+path+":"+form, index))
			}
			if log.Len() > 0 {
				t.Errorf("the log has %s", log)
			}
		})
	}
}

// TestIndexPrefersTheOwnArchitecture to one that runs here as well, whatever the order.
func TestIndexPrefersTheOwnArchitecture(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64 has a second architecture")
	}
	server := images.Registry(t)
	old, own := small(t, v1.Platform{OS: "linux", Architecture: "386"}, "old"), small(t, v1.Platform{OS: "linux", Architecture: "x86_64"}, "own")
	n, _ := noted(t, server)
	pulled := n.pull(t, server.PushIndex(t, "app:v1", images.Index(t, images.OCI, old, own)))
	if want, _ := own.ConfigName(); pulled.ImageID != want.Hex {
		t.Errorf("got the image %s, want %s", pulled.ImageID, want.Hex)
	}
}

// TestManifestThatLies: an image that says it is for another architecture is pulled, with a
// warning: many of them run.
func TestManifestThatLies(t *testing.T) {
	server := images.Registry(t)
	n, log := noted(t, server)
	ref := server.Push(t, "liar:v1", small(t, images.Elsewhere(), "content"))
	n.pull(t, ref)
	for _, part := range []string{"level=WARN", ref, "linux/" + images.Elsewhere().Architecture} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log has no %q: %s", part, log)
		}
	}
}

// TestOtherPlatforms: an image for a platform that a handler has a program for is pulled, from an
// index if there is none for this machine.
func TestOtherPlatforms(t *testing.T) {
	server := images.Registry(t)
	wasm := v1.Platform{OS: "wasi", Architecture: "wasm32"}
	far, own := small(t, wasm, "far"), small(t, images.Here(), "own")
	alone := server.Push(t, "wasm:alone", far)
	among := server.PushIndex(t, "wasm:among", images.Index(t, images.OCI, small(t, images.Elsewhere(), "else"), far))
	both := server.PushIndex(t, "wasm:both", images.Index(t, images.OCI, far, own))
	n := newNode(t, server, with(func(o *Options) { o.Platforms = []string{"wasi/wasm32"} }))
	for name, want := range map[string]string{alone: "wasi", among: "wasi", both: "linux"} {
		stored, err := n.store.Images.Resolve(t.Context(), n.pull(t, name).ImageID)
		if err != nil || stored.Config.OS != want {
			t.Errorf("%s is stored as %+v, %v; want one for %s", name, stored.Config, err, want)
		}
	}
	plain := newNode(t, server)
	for _, name := range []string{alone, among} {
		if _, err := plain.puller.Pull(t.Context(), PullRequest{Ref: name}); !errors.Is(err, ErrUnsupportedPlatform) {
			t.Errorf("%s without such a handler: %v", name, err)
		}
	}
}

// TestConfigurationsAsDockerWritesThem: fields that nobody reads make no image unusable.
func TestConfigurationsAsDockerWritesThem(t *testing.T) {
	server := images.Registry(t)
	for name, change := range map[string]func(config map[string]any){
		"health check with texts": func(config map[string]any) {
			config["Healthcheck"] = map[string]any{"Test": []string{"CMD", "true"}, "Interval": "30s", "Timeout": "5s", "Retries": "3"}
		},
		"health check with a text": func(config map[string]any) { config["Healthcheck"] = "none" },
		"a stop timeout as text":   func(config map[string]any) { config["StopTimeout"] = "10" },
		"ONBUILD with a text":      func(config map[string]any) { config["OnBuild"] = "RUN true" },
		"a shell with a text":      func(config map[string]any) { config["Shell"] = "/bin/sh" },
		"memory as text":           func(config map[string]any) { config["Memory"] = "1g" },
	} {
		for form, format := range map[string]images.Format{"oci": images.OCI, "docker": images.Docker} {
			t.Run(name+"/"+form, func(t *testing.T) {
				image := images.Build(t, images.Spec{Format: format, Layers: [][]images.File{{{Path: "f", Mode: 0o644}}}})
				image = images.Written(t, image, func(config map[string]any) { change(config["config"].(map[string]any)) })
				n, log := noted(t, server)
				pulled := n.pull(t, server.Push(t, "written:v1", image))
				stored, err := n.store.Images.Resolve(context.Background(), pulled.ImageID)
				if err != nil || stored.Config == nil {
					t.Errorf("the image is stored as %+v, %v", stored, err)
				}
				if log.Len() > 0 {
					t.Errorf("the log has %s", log)
				}
			})
		}
	}
}
