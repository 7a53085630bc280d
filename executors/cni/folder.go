package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a change of the folder is given to become complete.
const settle = 100 * time.Millisecond

// folder follows a configuration folder, which may be made, removed and replaced.
type folder struct {
	dir     string
	watcher *fsnotify.Watcher
	ended   sync.WaitGroup
}

// watch starts to watch a folder: no later change is missed.
func watch(dir string) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	f := &folder{dir: dir, watcher: watcher}
	f.arm()
	return f, nil
}

// arm watches the folder, those in it, where plugins can have files of their own,
// and all above it: each of them can be made, moved or replaced. A missing folder
// cannot be watched, but the one above it shows when it appears. Adding a watch
// twice costs nothing.
func (f *folder) arm() {
	for dir := f.dir; ; dir = filepath.Dir(dir) {
		_ = f.watcher.Add(dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	entries, _ := os.ReadDir(f.dir) // loadNetwork reports the error
	for _, entry := range entries {
		if entry.IsDir() {
			_ = f.watcher.Add(filepath.Join(f.dir, entry.Name()))
		}
	}
}

// follow calls changed, from one goroutine, after the folder has changed.
func (f *folder) follow(changed func()) {
	f.ended.Go(func() { f.run(changed) })
}

func (f *folder) run(changed func()) {
	// The first change starts the timer and later ones do not extend it: a folder
	// that changes all the time is read, too.
	var settled <-chan time.Time
	for {
		select {
		case event, open := <-f.watcher.Events:
			if !open {
				return
			}
			if settled == nil && f.concerns(event.Name) {
				settled = time.After(settle)
			}
		case _, open := <-f.watcher.Errors:
			// Events were lost; the folder is read as a whole anyway.
			if open && settled == nil {
				settled = time.After(settle)
			}
		case <-settled:
			settled = nil
			f.arm()
			changed()
		}
	}
}

// concerns reports whether a path is in the folder, or the folder is in it.
func (f *folder) concerns(path string) bool {
	return within(path, f.dir) || within(f.dir, path)
}

func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// close stops the watch and waits until changed is called no more.
func (f *folder) close() {
	_ = f.watcher.Close() // it only ends a descriptor
	f.ended.Wait()
}
