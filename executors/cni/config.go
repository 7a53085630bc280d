package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/fsnotify/fsnotify"
)

// settle is how long a change of the folder is given to become complete.
const settle = 100 * time.Millisecond

// errNoNetwork says that the folder has no usable configuration.
var errNoNetwork = errors.New("no CNI network is configured")

// loadNetwork returns the first valid configuration of a folder in lexical order.
// Files that are not valid are passed over; they are named if nothing is left.
func loadNetwork(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", errNoNetwork, dir, err)
	}
	slices.Sort(files)
	var wrong []error
	for _, file := range files {
		list, err := loadFile(file)
		if err == nil {
			return list, nil
		}
		wrong = append(wrong, fmt.Errorf("%s: %w", file, err))
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("%w: no file in %s is valid: %w", errNoNetwork, dir, errors.Join(wrong...))
	}
	return nil, fmt.Errorf("%w: no configuration in %s", errNoNetwork, dir)
}

func loadFile(file string) (*libcni.NetworkConfigList, error) {
	var list *libcni.NetworkConfigList
	if filepath.Ext(file) == ".conflist" {
		var err error
		if list, err = libcni.NetworkConfFromFile(file); err != nil {
			return nil, err
		}
	} else {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		plugin, err := libcni.NetworkPluginConfFromBytes(b)
		if err != nil {
			return nil, err
		}
		if plugin.Network.Type == "" {
			return nil, errors.New("it has no type; a list of plugins belongs into a .conflist file")
		}
		if list, err = libcni.ConfListFromConf(plugin); err != nil {
			return nil, err
		}
	}
	if len(list.Plugins) == 0 {
		return nil, errors.New("it has no plugins")
	}
	return list, nil
}

// folder follows a configuration folder that may come, go and be replaced.
type folder struct {
	dir     string
	changed func()
	watcher *fsnotify.Watcher
	ended   sync.WaitGroup
}

// watch calls changed, from one goroutine, after the folder has changed.
func watch(dir string, changed func()) (*folder, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	f := &folder{dir: filepath.Clean(dir), changed: changed, watcher: watcher}
	f.arm()
	f.ended.Go(f.run)
	return f, nil
}

// arm watches the folder, or while it is missing, the nearest one above it. A
// watch that is there already costs nothing.
func (f *folder) arm() {
	for dir := f.dir; ; dir = filepath.Dir(dir) {
		if f.watcher.Add(dir) == nil || dir == filepath.Dir(dir) {
			return
		}
	}
}

func (f *folder) run() {
	timer := time.NewTimer(settle)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case _, open := <-f.watcher.Events:
			if !open {
				return
			}
			timer.Reset(settle)
		case <-f.watcher.Errors:
			// Events were lost; the folder is read as a whole anyway.
			timer.Reset(settle)
		case <-timer.C:
			f.arm()
			f.changed()
		}
	}
}

// close ends the watching and waits until nothing calls changed any more.
func (f *folder) close() {
	_ = f.watcher.Close() // it only ends a descriptor
	f.ended.Wait()
}
