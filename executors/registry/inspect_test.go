package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

func TestInspectRemote(t *testing.T) {
	server := images.Registry(t)
	image := images.Build(t, images.Spec{
		Config: v1.Config{User: "app", Env: []string{"A=b"}, Labels: map[string]string{"l": "v"}, Entrypoint: []string{"/e"}, Volumes: map[string]struct{}{"/v": {}}},
		Layers: [][]images.File{{{Path: "one", Mode: 0o644}}, {{Path: "two", Mode: 0o644}}},
	})
	index := images.Index(t, images.OCI, small(t, images.Elsewhere(), "x"), image)
	ref, multi := server.Push(t, "app:v1", image), server.PushIndex(t, "app:multi", index)
	foreign := server.Push(t, "app:foreign", small(t, images.Elsewhere(), "x"))
	own, _ := image.Digest()
	top, _ := index.Digest()
	layers := layerPaths(t, image)
	proxy := images.Front(t, server)
	n := newNode(t, &proxy.Server)
	for _, name := range []string{ref, multi} {
		asked := strings.Replace(name, server.Host, "docker://"+proxy.Host, 1)
		got, err := n.puller.Inspect(context.Background(), InspectRequest{Image: asked, Tags: true})
		if err != nil {
			t.Fatal(err)
		}
		want := own.String()
		if name == multi {
			want = top.String()
			if !slices.Equal(got.Platforms, []string{"linux/" + images.Elsewhere().Architecture, here()}) {
				t.Errorf("platforms are %q", got.Platforms)
			}
		} else if got.Platforms != nil {
			t.Errorf("platforms are %q", got.Platforms)
		}
		if got.Digest != want || got.Manifest != own.String() || "docker://"+got.Name != asked {
			t.Errorf("%s is %s, %s, %s", asked, got.Name, got.Digest, got.Manifest)
		}
		if !slices.Equal(got.Tags, []string{"foreign", "multi", "v1"}) || got.MoreTags {
			t.Errorf("tags are %q", got.Tags)
		}
		var size int64
		for i, layer := range got.Layers {
			size += layer.Size
			if !strings.HasSuffix(layers[i], layer.Digest) || layer.Size <= 0 || layer.MediaType == "" {
				t.Errorf("layer %d is %+v", i, layer)
			}
		}
		if len(got.Layers) != len(layers) || got.Bytes != size {
			t.Errorf("%d layers of %d bytes", len(got.Layers), got.Bytes)
		}
		if got.OS+"/"+got.Architecture != here() || !got.Created.Equal(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("of %s, made %v", got.OS+"/"+got.Architecture, got.Created)
		}
		config := got.Config
		if config.User != "app" || !slices.Equal(config.Env, []string{"A=b"}) || config.Labels["l"] != "v" || !slices.Equal(config.Entrypoint, []string{"/e"}) || len(config.Volumes) != 1 {
			t.Errorf("configuration is %+v", config)
		}
	}
	for _, layer := range layers {
		if proxy.Gets(layer) > 0 {
			t.Errorf("%s was fetched", layer)
		}
	}
	n.expectNothingLeft(t)

	got, err := n.puller.Inspect(context.Background(), InspectRequest{Image: strings.Replace(foreign, server.Host, proxy.Host, 1)})
	if err != nil || got.Architecture != images.Elsewhere().Architecture || got.Tags != nil {
		t.Errorf("the foreign image is %+v, %v", got, err)
	}
	_, err = n.puller.Inspect(context.Background(), InspectRequest{Image: proxy.Host + "/app:none"})
	expectKind(t, err, ErrNotFound)
	if !strings.HasPrefix(fmt.Sprint(err), "inspect ") {
		t.Errorf("error is %v", err)
	}
}

func TestInspectHidesCredentials(t *testing.T) {
	server := images.Registry(t)
	ref := server.Push(t, "app:v1", small(t, images.Here(), "content"))
	server.Intercept(basicAuth)
	n := newNode(t, server)
	_, err := n.puller.Inspect(context.Background(), InspectRequest{Image: ref, Credentials: Credentials{Username: user, Password: "wrong-" + secret}})
	expectKind(t, err, ErrUnauthorized)
	if strings.Contains(fmt.Sprint(err), "s3cr") {
		t.Errorf("the error shows the password: %v", err)
	}
	if _, err := n.puller.Inspect(context.Background(), InspectRequest{Image: ref, Credentials: Credentials{Username: user, Password: secret}}); err != nil {
		t.Error(err)
	}
}

func TestInspectLocal(t *testing.T) {
	a := newArchives(t)
	n := newNode(t, a.server)
	n.pull(t, a.server.Host+"/app:v1")
	digest, _ := a.first.Digest()
	for image, name := range map[string]string{
		"oci:" + a.layout + ":v1":                         "localhost/app:v1",
		"oci-archive:" + a.oci:                            "lab.test/app:v1",
		"docker-archive:" + a.docker + ":lab.test/app:v1": "lab.test/app:v1",
		"containers-storage:" + a.server.Host + "/app:v1": a.server.Host + "/app:v1",
	} {
		got, err := n.puller.Inspect(context.Background(), InspectRequest{Image: image})
		if err != nil {
			t.Error(err)
			continue
		}
		if got.Name != name || len(got.Layers) != 1 || got.Architecture != images.Here().Architecture {
			t.Errorf("%s is %+v", image, got)
		}
		if !strings.HasPrefix(image, "docker-archive") && got.Digest != digest.String() {
			t.Errorf("%s has the digest %s, want %s", image, got.Digest, digest)
		}
	}
	_, err := n.puller.Inspect(context.Background(), InspectRequest{Image: "oci:" + a.layout})
	expectKind(t, err, ErrInvalidReference)
	_, err = n.puller.Inspect(context.Background(), InspectRequest{Image: "containers-storage:none:1"})
	expectKind(t, err, ErrNotFound)
}
