package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	library "go.podman.io/storage"
	"golang.org/x/sys/unix"
)

const (
	// holdOwner marks the container records that hold images. It is on disk: do not change it.
	holdOwner = "stele.hold.v1"
	// holdFor is how long an image is held at least after its last layer was released, and half
	// of how long at most: a pod that comes every minute does not make its hold every minute.
	holdFor = 10 * time.Minute
)

// holds keep images that writable layers stand on from being removed, by Stele and by others
// that use the store: for each such image the library has the record of one container, whose
// layer is empty and never mounted. A hold is made with the first layer of its image, stays
// for a while after the last, and is dropped at once if the image is to be removed.
//
// A record of a layer is written before its image's hold is looked for, and a hold is dropped
// only after the records have been read, under a lock of all daemons that share the store: so
// no layer is without. Under that lock records also get their final names: who lists or opens
// them meanwhile could find neither name.
type holds struct {
	*disk
	library *libraryLayers

	mu      sync.Mutex        // not held during I/O
	parents map[string]string // by image: the layer on which writable ones stand
	idle    map[string]bool   // images without layers at the last look
}

// holdRecord is the metadata of a hold, on disk as JSON.
type holdRecord struct {
	Owner   string `json:"owner"`
	ImageID string `json:"image"`
}

func holdOf(imageID string) string { return digest.FromString("image hold " + imageID).Encoded() }

// ownHold returns whose hold a record is.
func ownHold(container *library.Container) (imageID string, isHold bool) {
	var record holdRecord
	err := json.Unmarshal([]byte(container.Metadata), &record)
	return record.ImageID, err == nil && record.Owner == holdOwner && container.ID == holdOf(record.ImageID)
}

// locked calls do under the lock of all daemons that share the store: one that drops or makes
// a hold, or any number that look for theirs.
func (h *holds) locked(how int, do func() error) error {
	file, err := os.OpenFile(filepath.Join(h.layout.writableRoot(), "holds.lock"), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("lock the holds of images: %w", err)
	}
	defer func() {
		// A process that the library has just cloned may have the file, too.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		_ = file.Close() // nothing is written
	}()
	for {
		err = unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock the holds of images: %w", err)
	}
	return do()
}

// hold returns the layer on which an image's writable layers stand, and makes sure that the
// image is held. It fails with ErrImageNotFound.
func (h *holds) hold(imageID string) (parent string, err error) {
	err = h.locked(unix.LOCK_SH, func() error {
		parent, err = h.held(imageID)
		return err
	})
	if !isGone(err) {
		return parent, err
	}
	err = h.locked(unix.LOCK_EX, func() error {
		if parent, err = h.held(imageID); !isGone(err) {
			return err
		}
		if err := h.make(imageID); err != nil {
			return err
		}
		parent, err = h.held(imageID)
		return err
	})
	return parent, err
}

// held fails with one of the library's errors if there is no whole hold.
func (h *holds) held(imageID string) (parent string, err error) {
	id := holdOf(imageID)
	record, err := h.lib.Container(id)
	if err != nil {
		return "", err
	}
	if holds, ok := ownHold(record); !ok || holds != imageID {
		return "", fmt.Errorf("%w: the record of the id with which Stele holds image %s is another program's", ErrRootfsConflict, imageID)
	}
	h.mu.Lock()
	parent, known := h.parents[imageID]
	h.mu.Unlock()
	if known {
		return parent, nil
	}
	layer, err := h.lib.Layer(id)
	if err != nil {
		return "", err
	}
	if err := h.expectUnmapped(imageID, layer.Parent); err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parents[imageID] = layer.Parent
	return layer.Parent, nil
}

// expectUnmapped fails for an image whose files belong to mapped ids. The library gives such images
// of its own store a second top layer, and has none for those of stores that are only read.
func (h *holds) expectUnmapped(imageID, topLayer string) error {
	if topLayer == "" {
		return nil
	}
	layer, err := h.lib.Layer(topLayer)
	if err != nil {
		return fmt.Errorf("look at the files of image %s: %w", imageID, err)
	}
	if len(layer.UIDMap) > 0 || len(layer.GIDMap) > 0 {
		return fmt.Errorf("image %s is in a read-only store whose files belong to mapped ids, as without root; pull it into the node's own store", imageID)
	}
	return nil
}

func (h *holds) make(imageID string) error {
	h.forget(imageID)
	metadata, err := json.Marshal(holdRecord{holdOwner, imageID})
	if err != nil {
		return err
	}
	id := holdOf(imageID)
	if _, err := h.lib.Container(id); err == nil {
		// Its layer is lost.
		if err := h.lib.DeleteContainer(id); err != nil && !isGone(err) {
			return fmt.Errorf("remove a record without a layer: %w", err)
		}
	}
	if err := h.library.create(id, imageID, string(metadata)); err != nil {
		return fmt.Errorf("hold image %s: %w", imageID, err)
	}
	return nil
}

func (h *holds) forget(imageID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.parents, imageID)
}

// drop drops an image's hold unless a layer stands on it; then used is true.
func (h *holds) drop(ctx context.Context, imageID string) (used bool, err error) {
	err = h.locked(unix.LOCK_EX, func() error {
		users, err := h.usersOf(imageID)
		if used = len(users) > 0; used || err != nil {
			return err
		}
		h.forget(imageID)
		return h.library.release(ctx, holdOf(imageID))
	})
	if err != nil {
		return used, fmt.Errorf("drop the hold of image %s: %w", imageID, err)
	}
	return used, nil
}

// list returns the images that are held.
func (h *holds) list() ([]string, error) {
	containers, err := h.lib.Containers()
	if err != nil {
		return nil, fmt.Errorf("read the container records: %w", err)
	}
	var images []string
	for i := range containers {
		if image, isHold := ownHold(&containers[i]); isHold {
			images = append(images, image)
		}
	}
	return images, nil
}

// settle makes the holds that are missing, as after a power failure, and drops those that
// nothing needs, unless something did at the last look.
func (h *holds) settle(ctx context.Context) error {
	records, err := h.records()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, record := range records {
		if record.imageID != "" { // otherwise its writer died
			used[record.imageID] = true
		}
	}
	held, err := h.list()
	if err != nil {
		return err
	}
	h.mu.Lock()
	before := h.idle
	h.idle = map[string]bool{}
	for _, image := range held {
		h.idle[image] = !used[image]
	}
	h.mu.Unlock()
	var failed error
	for _, image := range held {
		if !used[image] && (before == nil || before[image]) {
			_, err := h.drop(ctx, image)
			failed = errors.Join(failed, err)
		}
		delete(used, image)
	}
	for image := range used {
		if _, err := h.hold(image); err != nil && !errors.Is(err, ErrImageNotFound) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// keepSettled settles from time to time, until the context is done.
func (h *holds) keepSettled(ctx context.Context) {
	for tick := time.NewTicker(holdFor); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if err := h.settle(ctx); err != nil {
			h.log.Warn("not all images are held by their containers, or some are without", "error", err)
		}
	}
}
