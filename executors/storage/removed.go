package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// removedLayers unlinks layers after the call that removes them: they are renamed aside. What
// a daemon leaves there, the next one unlinks.
type removedLayers struct {
	*disk
	beside  *background
	turn    *semaphore.Weighted
	serial  atomic.Int64
	waiting atomic.Bool // a task will look at what is there from now on
}

// add takes a layer away from its place. Nothing may be mounted below it.
func (r *removedLayers) add(dir, id string) error {
	if err := r.unlinkUnwritten(dir, id); err != nil {
		return err
	}
	aside := filepath.Join(r.layout.removed(), fmt.Sprintf("%s-%d-%d", id, time.Now().UnixNano(), r.serial.Add(1)))
	err := os.Rename(dir, aside)
	if IsFull(err) || errors.Is(err, unix.EXDEV) {
		return r.unlinkLayer(dir) // no room for a longer list, or another project quota there
	}
	if err == nil {
		r.unlinkSoon()
	}
	return err
}

func (r *removedLayers) unlinkSoon() {
	if r.waiting.Swap(true) {
		return
	}
	r.beside.do(func(ctx context.Context) { r.unlink(ctx) })
}

// unlink unlinks what is there now, and reports whether there was anything.
func (r *removedLayers) unlink(ctx context.Context) (any bool) {
	if err := r.turn.Acquire(ctx, 1); err != nil {
		return false
	}
	defer r.turn.Release(1)
	r.waiting.Store(false)
	entries, err := os.ReadDir(r.layout.removed())
	for _, entry := range entries {
		if ctx.Err() != nil {
			return any
		}
		any = true
		err = errors.Join(err, r.unlinkLayer(filepath.Join(r.layout.removed(), entry.Name())))
	}
	if err != nil {
		r.log.Warn("files of removed containers are left; they are tried again with the next, and at the next start", "error", err)
	}
	return any
}

// unlinkLayer removes a layer's directory, and the driver's link to it. Of the directories on
// which something is mounted at times only empty ones are removed, whatever was overlooked: the
// files below them are others'.
func (r *removedLayers) unlinkLayer(dir string) error {
	if !r.layout.mounts() {
		return os.RemoveAll(dir)
	}
	if err := r.unlinkLink(dir); err != nil {
		return err
	}
	mountpoints := []string{filepath.Join(dir, mergedDir)}
	for _, lower := range lowerDirs {
		some, err := filepath.Glob(filepath.Join(dir, lower, "*"))
		if err != nil {
			return err
		}
		mountpoints = append(mountpoints, some...)
	}
	for _, path := range mountpoints {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.RemoveAll(dir)
}

func (r *removedLayers) links() string {
	return filepath.Join(r.layout.driverDir(r.layout.writableRoot()), linksDir)
}

// unlinkLink removes the short name that the driver gives every layer: see links.go.
func (r *removedLayers) unlinkLink(dir string) error {
	name, err := writtenName(dir)
	if err != nil || name == "" {
		return err
	}
	link := filepath.Join(r.links(), name)
	target, err := os.Readlink(link)
	if err == nil && strings.HasPrefix(filepath.Base(dir), filepath.Base(filepath.Dir(target))) {
		err = os.Remove(link)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// unlinkUnwritten removes the short names of a layer whose maker died after it had made the link,
// and before it wrote down the name. They go while the layer is in its place: another one of the same
// id may be there a moment later, and nobody could tell whose they are.
func (r *removedLayers) unlinkUnwritten(dir, id string) error {
	if !r.layout.mounts() {
		return nil
	}
	name, err := writtenName(dir)
	if err != nil || name != "" {
		return err
	}
	for _, name := range namesOf(filepath.Dir(dir), id) {
		if err := os.Remove(filepath.Join(r.links(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writtenName is the short name in a layer's directory, "" if there is none.
func writtenName(dir string) (string, error) {
	name, err := os.ReadFile(filepath.Join(dir, linkFile))
	if errors.Is(err, os.ErrNotExist) || err == nil && !shortName.Match(name) {
		return "", nil
	}
	return string(name), err
}
