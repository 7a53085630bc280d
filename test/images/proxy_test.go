package images_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/stele-runtime/stele/test/images"
)

// blob gives the URL of an image's only layer, as a proxy before the registry serves it.
func blob(t *testing.T, proxy *images.Proxy, image v1.Image) string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "http", Host: proxy.Host, Path: "/v2/app/blobs/" + digest.String()}).String()
}

func get(t *testing.T, address, ranges string) (status int, body string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		request.Header.Set("Range", ranges)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	content, err := io.ReadAll(answer.Body)
	if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	return answer.StatusCode, string(content), err
}

func TestProxySpoilsAnswers(t *testing.T) {
	server := images.Registry(t)
	image := images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "file", Mode: 0o644, Content: []byte("content")}}}})
	server.Push(t, "app:v1", image)
	proxy := images.Front(t, server)
	address := blob(t, proxy, image)
	status, whole, err := get(t, address, "")
	if status != http.StatusOK || err != nil {
		t.Fatal(status, err)
	}
	for name, test := range map[string]struct {
		fault  images.Fault
		status int
		body   string
		cut    bool
	}{
		"none":    {images.Fault{}, http.StatusOK, whole, false},
		"status":  {images.Fault{Status: http.StatusTeapot, Body: "short"}, http.StatusTeapot, "short", false},
		"cut":     {images.Fault{Cut: true, After: 5}, http.StatusOK, whole[:5], true},
		"replace": {images.Fault{Replace: []byte("other")}, http.StatusOK, "other", false},
		"drip":    {images.Fault{Drip: 1}, http.StatusOK, whole, false},
	} {
		proxy.Spoil(func(*http.Request) images.Fault { return test.fault })
		status, body, err := get(t, address, "")
		if status != test.status || body != test.body || errors.Is(err, io.ErrUnexpectedEOF) != test.cut {
			t.Errorf("%s: %d, %d bytes, %v", name, status, len(body), err)
		}
	}
	if gets := proxy.Gets("/blobs/"); gets != 6 {
		t.Errorf("%d requests were counted", gets)
	}
}

func TestRanges(t *testing.T) {
	server := images.Registry(t)
	image := images.Build(t, images.Spec{Layers: [][]images.File{{{Path: "file", Mode: 0o644, Content: []byte("content")}}}})
	server.Push(t, "app:v1", image)
	address := blob(t, images.Front(t, server), image)
	_, whole, err := get(t, address, "")
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := get(t, address, "bytes=7-"); status != http.StatusPartialContent || body != whole[7:] || err != nil {
		t.Errorf("%d, %d bytes, %v", status, len(body), err)
	}
	status, body, err := get(t, address, "bytes=0-3,7-9")
	if status != http.StatusPartialContent || !strings.Contains(body, whole[7:10]) || err != nil {
		t.Errorf("%d, %q, %v", status, body, err)
	}
}
