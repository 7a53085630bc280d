package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// storeDir is where the image store is in the daemon's root directory.
const storeDir = "storage"

// The store's own files, of which only some fields are read. "Volatile" ones are forgotten
// at the next boot.
type (
	storeContainer struct {
		ID       string   `json:"id"`
		Names    []string `json:"names"`
		Image    string   `json:"image"`
		Layer    string   `json:"layer"`
		Metadata string   `json:"metadata"`
	}
	storeLayer struct {
		ID     string `json:"id"`
		Parent string `json:"parent"`
	}
	storeImage struct {
		ID           string   `json:"id"`
		Layer        string   `json:"layer"`
		MappedLayers []string `json:"mapped-layers"`
	}
)

// storage finds containers in the store, layers that no image needs, and directories of
// unknown layers.
func storage(scope Scope, snapshot Snapshot) error {
	if scope.Root == "" {
		return nil
	}
	store := filepath.Join(scope.Root, storeDir)
	containers, err := records[storeContainer](store, "overlay-containers/containers.json", "overlay-containers/volatile-containers.json")
	if err != nil {
		return err
	}
	layers, err := records[storeLayer](store, "overlay-layers/layers.json", "overlay-layers/volatile-layers.json")
	if err != nil {
		return err
	}
	images, err := records[storeImage](store, "overlay-images/images.json")
	if err != nil {
		return err
	}
	parent, needed := map[string]string{}, map[string]bool{}
	for _, l := range layers {
		parent[l.ID] = l.Parent
	}
	for _, image := range images {
		for _, top := range append(image.MappedLayers, image.Layer) {
			for layer := top; layer != "" && !needed[layer]; layer = parent[layer] {
				needed[layer] = true
			}
		}
	}
	for _, c := range containers {
		// The record that holds an image stays for a while after its last container.
		if strings.Contains(c.Metadata, holdOwner) && slices.ContainsFunc(images, func(i storeImage) bool { return i.ID == c.Image }) {
			needed[c.Layer] = true
			continue
		}
		snapshot.add(Container, c.ID, fmt.Sprintf("names %q, image %s, %s", c.Names, c.Image, c.Metadata))
	}
	for _, l := range layers {
		if !needed[l.ID] {
			snapshot.add(Layer, l.ID, "no image needs it")
		}
	}
	return errors.Join(layerFolders(store, parent, snapshot), writable(filepath.Join(store, "stele-writable"), snapshot))
}

// holdOwner is in the metadata of records that hold images.
const holdOwner = `"stele.hold.v1"`

// writable finds what is left of containers' layers: records, files, and what was removed and
// not unlinked.
func writable(dir string, snapshot Snapshot) error {
	for kind, pattern := range map[string]string{"record": "records/*", "files": "overlay/" + strings.Repeat("?", 64), "link": "overlay/l/*", "removed": "removed/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			snapshot.add(Layer, path, "of a container: "+kind)
		}
	}
	return nil
}

func layerFolders(store string, known map[string]string, snapshot Snapshot) error {
	entries, err := os.ReadDir(filepath.Join(store, "overlay"))
	if err != nil && !gone(err) {
		return err
	}
	for _, entry := range entries {
		if _, ok := known[entry.Name()]; !ok && entry.IsDir() && idInName.MatchString(entry.Name()) {
			snapshot.add(Layer, filepath.Join(store, "overlay", entry.Name()), "a folder that the store does not know")
		}
	}
	return nil
}

// records reads lists of the store. A missing file is an empty list.
func records[T any](store string, names ...string) ([]T, error) {
	var all []T
	for _, name := range names {
		path := filepath.Join(store, name)
		content, err := readIfThere(path)
		if err != nil {
			return nil, err
		}
		if len(content) == 0 {
			continue
		}
		var some []T
		if err := json.Unmarshal(content, &some); err != nil {
			return nil, fmt.Errorf("audit: %s: %w", path, err)
		}
		all = append(all, some...)
	}
	return all, nil
}
