package images

import (
	"bytes"
	"encoding/json"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
)

// Written changes an image's configuration as JSON, to something that no builder of this
// package makes.
func Written(t testing.TB, image v1.Image, change func(config map[string]any)) v1.Image {
	t.Helper()
	raw, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	change(config)
	w := written{Image: image}
	if w.config, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest = manifest.DeepCopy()
	manifest.Config.Size = int64(len(w.config))
	if manifest.Config.Digest, _, err = v1.SHA256(bytes.NewReader(w.config)); err != nil {
		t.Fatal(err)
	}
	if w.manifest, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	return w
}

type written struct {
	v1.Image
	config, manifest []byte
}

func (w written) RawConfigFile() ([]byte, error)      { return w.config, nil }
func (w written) RawManifest() ([]byte, error)        { return w.manifest, nil }
func (w written) ConfigName() (v1.Hash, error)        { return partial.ConfigName(w) }
func (w written) ConfigFile() (*v1.ConfigFile, error) { return partial.ConfigFile(w) }
func (w written) Manifest() (*v1.Manifest, error)     { return partial.Manifest(w) }
func (w written) Digest() (v1.Hash, error)            { return partial.Digest(w) }
func (w written) Size() (int64, error)                { return partial.Size(w) }
