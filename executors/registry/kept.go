package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/pkg/blobcache"
	imagetypes "go.podman.io/image/v5/types"
)

// The image library puts layers into the store from the lowest up. One that arrives before
// a lower one waits in a temporary file, and is lost when the lower one fails. Here such
// files are kept for the next try, of this pull or another: they get a second name while
// the library works, and when it fails, complete layers move to a directory from which the
// next try reads.

const (
	// keptDir is in Options.TempDir: hard links need one file system.
	keptDir = "stele-kept"
	// keptFor bounds how long layers are kept; the kubelet's retries are at most five
	// minutes apart.
	keptFor = time.Hour
	// waitingDir is in a job's temporary directory.
	waitingDir = "waiting"
)

// waiting are second names of the library's temporary files. Only the meter's goroutine
// adds to them, until it ends.
type waiting struct {
	temp  string            // the job's temporary directory
	names map[string]string // second name by first
}

// add gives all present files a second name.
func (w *waiting) add() {
	dir := filepath.Join(w.temp, waitingDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return // then they are fetched again
	}
	files, _ := filepath.Glob(filepath.Join(w.temp, "container_images_*", "*"))
	for _, file := range files {
		if w.names[file] != "" {
			continue
		}
		second := filepath.Join(dir, strconv.Itoa(len(w.names)))
		if err := os.Link(file, second); err == nil {
			w.names[file] = second
		}
	}
}

// forget removes the second names.
func (w *waiting) forget() error { return os.RemoveAll(filepath.Join(w.temp, waitingDir)) }

// keep moves the files that are layers of the image to the kept ones.
func (w *waiting) keep(layers map[string]bool, kept string) error {
	for _, path := range w.names {
		digest, err := digestOf(path)
		if err != nil {
			return err
		}
		if !layers[digest.String()] {
			continue
		}
		if err := os.MkdirAll(kept, 0o700); err != nil {
			return err
		}
		if err := os.Rename(path, filepath.Join(kept, digest.String())); err != nil {
			return err
		}
	}
	return nil
}

func digestOf(path string) (digest.Digest, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	digester := digest.Canonical.Digester()
	if _, err := io.Copy(digester.Hash(), file); err != nil {
		return "", err
	}
	return digester.Digest(), nil
}

// isFull reports whether a failure means a full disk or an exhausted quota. Large layers
// are unpacked by another process, whose error arrives as text.
func isFull(failure error) bool {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(failure, full) || strings.Contains(failure.Error(), full.Error()) {
			return true
		}
	}
	return false
}

// worthKeeping reports whether the layers may be needed after a failure: not if the image
// was refused.
func worthKeeping(ctx context.Context, failure error) bool {
	return ctx.Err() != nil || errors.Is(failure, ErrStalled) || errors.Is(kindOf(failure), ErrUnavailable) ||
		errors.Is(kindOf(failure), ErrRateLimited)
}

func (p *Puller) keptDir() string { return filepath.Join(p.options.TempDir, keptDir) }

// fromKept makes a source read kept layers from disk; the library checks their digests, as
// for all others.
func (p *Puller) fromKept(source imagetypes.ImageReference) (imagetypes.ImageReference, error) {
	kept, err := os.ReadDir(p.keptDir())
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(kept) == 0 {
		return source, nil
	}
	if err != nil {
		return nil, err
	}
	return blobcache.NewBlobCache(source, p.keptDir(), imagetypes.PreserveOriginal)
}

// The kept layers that are dropped beside old ones: those that are in the store now; all,
// as the disk is full; none.
func ofThese(stored map[string]bool) func(layer string) bool {
	return func(layer string) bool { return stored[layer] }
}
func everything(string) bool { return true }
func onlyOld(string) bool    { return false }

// dropKept removes kept layers that are old or chosen.
func (p *Puller) dropKept(chosen func(layer string) bool) {
	kept, err := os.ReadDir(p.keptDir())
	if err != nil {
		return // there are none
	}
	for _, entry := range kept {
		info, err := entry.Info()
		if err != nil || !chosen(entry.Name()) && time.Since(info.ModTime()) < keptFor {
			continue
		}
		if err := os.Remove(filepath.Join(p.keptDir(), entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.log.Warn("a layer that was kept for a retry could not be removed", "error", err)
		}
	}
}
