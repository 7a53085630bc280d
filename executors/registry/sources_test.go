package registry

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/test/images"
)

// mirroredNode finds upstream.example/team at a mirror first, and then at a registry.
func mirroredNode(t *testing.T, mirror, upstream *images.Server, change ...func(*Options)) *node {
	t.Helper()
	return newNode(t, upstream, func(o *nodeOptions) {
		o.RegistriesConf = filepath.Join(o.Root, "registries.conf")
		o.RegistriesConfDir = filepath.Join(o.Root, "registries.conf.d")
		write(t, o.RegistriesConf, fmt.Sprintf(`
[[registry]]
prefix = "upstream.example/team"
location = "%s/team"
insecure = true
[[registry.mirror]]
location = "%s/copies"
insecure = true
`, upstream.Host, mirror.Host))
		o.Change = func(options *Options) {
			for _, f := range change {
				f(options)
			}
		}
	})
}

// mirrorPatience is how long tests wait for a mirror that hangs: long enough for a registry
// that does not, on a busy machine.
const mirrorPatience = 10 * time.Second

// mirrorFaults are what a mirror can do wrong.
var mirrorFaults = map[string]images.Fault{
	"hangs at once":     {Hang: true},
	"hangs in the body": {Hang: true, After: 30},
	"cuts the body":     {Cut: true, After: 30},
	"lies":              {Replace: []byte("nonsense")},
	"fails":             {Status: http.StatusInternalServerError},
	"knows nobody":      {Status: http.StatusUnauthorized},
}

// TestMirrorThatFails: whatever a mirror gets wrong, the registry has the image.
func TestMirrorThatFails(t *testing.T) {
	server := images.Registry(t)
	image := small(t, images.Here(), strings.Repeat("content", 1000))
	server.Push(t, "copies/app:v1", image)
	server.Push(t, "team/app:v1", image)
	config, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{"manifest": "/manifests/", "configuration": config.Hex, "layer": layerPaths(t, image)[0]}
	for name, fault := range mirrorFaults {
		for part, path := range parts {
			t.Run(name+"/"+part, func(t *testing.T) {
				t.Parallel()
				mirror := images.Front(t, server)
				mirror.Spoil(func(r *http.Request) images.Fault {
					if strings.Contains(r.URL.Path, path) {
						return fault
					}
					return images.Fault{}
				})
				n := mirroredNode(t, &mirror.Server, server, func(o *Options) {
					o.Retries = -1
					if fault.Hang {
						o.StallTimeout = mirrorPatience
					}
				})
				n.pull(t, "upstream.example/team/app:v1")
				if mirror.Gets(path) == 0 {
					t.Error("the mirror was never asked")
				}
			})
		}
	}
}

// TestInspectFromMirrorThatHangs: an inspection tries the next source, too.
func TestInspectFromMirrorThatHangs(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	server.Push(t, "team/app:v1", small(t, images.Here(), "content"))
	mirror := images.Front(t, server)
	mirror.Spoil(func(*http.Request) images.Fault { return images.Fault{Hang: true} })
	n := mirroredNode(t, &mirror.Server, server, func(o *Options) { o.StallTimeout = mirrorPatience })
	if _, err := n.puller.Inspect(context.Background(), InspectRequest{Image: "upstream.example/team/app:v1"}); err != nil {
		t.Error(err)
	}
}

// TestEverySourceFails: the error names each with its failure, and has the registry's kind.
func TestEverySourceFails(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	mirror := images.Front(t, server)
	mirror.Spoil(func(*http.Request) images.Fault { return images.Fault{Hang: true} })
	n := mirroredNode(t, &mirror.Server, server, func(o *Options) { o.StallTimeout = mirrorPatience })
	_, err := n.puller.Pull(context.Background(), PullRequest{Ref: "upstream.example/team/app:v1"})
	expectKind(t, err, ErrNotFound)
	for _, part := range []string{
		"from " + mirror.Host + "/copies/app:v1: stalled: nothing came for 10s",
		"from " + server.Host + "/team/app:v1: ", "name unknown",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want %q in it", err, part)
		}
	}
}

// TestStalledMirrorIsAskedOnce: a registry that fails for a while is asked again, and a
// mirror that hung is not, which would take its time each time.
func TestStalledMirrorIsAskedOnce(t *testing.T) {
	t.Parallel()
	server := images.Registry(t)
	server.Push(t, "team/app:v1", small(t, images.Here(), "content"))
	mirror, upstream := images.Front(t, server), images.Front(t, server)
	mirror.Spoil(func(r *http.Request) images.Fault {
		return images.Fault{Hang: strings.Contains(r.URL.Path, "/manifests/")}
	})
	failures := 2
	upstream.Spoil(func(r *http.Request) images.Fault {
		if !strings.Contains(r.URL.Path, "/manifests/") || failures == 0 {
			return images.Fault{}
		}
		failures--
		return images.Fault{Status: http.StatusServiceUnavailable}
	})
	n := mirroredNode(t, &mirror.Server, &upstream.Server, func(o *Options) { o.StallTimeout = mirrorPatience })
	n.pull(t, "upstream.example/team/app:v1")
	if asked := mirror.Gets("/manifests/"); asked != 1 {
		t.Errorf("the mirror was asked %d times, want once", asked)
	}
}
