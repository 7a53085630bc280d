package hooks

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/common/pkg/hooks"
	hook "go.podman.io/common/pkg/hooks/1.0.0"
)

const (
	// maxFile bounds a file, in bytes; maxFiles how many there are in a directory.
	maxFile  = 1 << 20
	maxFiles = 1024
)

// Dirs are directories of hooks. A file hides those of its name in earlier directories; one
// that is missing is empty.
type Dirs []string

// DefaultDirs are those that CRI-O and podman read: the packages' and the administrator's.
func DefaultDirs() Dirs { return Dirs{hooks.DefaultDir, hooks.OverrideDir} }

// Container is what decides which hooks a container gets, beside its command.
type Container struct {
	// Annotations are the container's and its pod's.
	Annotations map[string]string
	// HasBindMounts: it mounts paths of the node.
	HasBindMounts bool
}

// Check reads all hooks. The error names each file that is none.
func (d Dirs) Check() error {
	_, err := d.read()
	return err
}

// Add adds the hooks that match a container to its specification, in the order of their
// files' names. A file that is no hook is an error: a container must not run without what
// the administrator may have wanted for it.
func (d Dirs) Add(to *specs.Spec, c Container) error {
	all, err := d.read()
	if err != nil {
		return err
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.ToLower(a), strings.ToLower(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		h := all[name]
		matches, err := h.When.Match(to, c.Annotations, c.HasBindMounts)
		if err != nil {
			return fmt.Errorf("hook %s: %w", h.path, err)
		}
		if !matches {
			continue
		}
		if to.Hooks == nil {
			to.Hooks = &specs.Hooks{}
		}
		for _, stage := range h.Stages {
			list := stageOf(to.Hooks, stage)
			*list = append(*list, h.Hook.Hook)
		}
	}
	return nil
}

// stageOf returns the hooks of a stage. The stage prestart, which the runtime
// specification no longer recommends, is run at the same point as createRuntime. There are
// no other stages: a hook with one is refused when it is read.
func stageOf(h *specs.Hooks, stage string) *[]specs.Hook {
	switch stage {
	case "createContainer":
		return &h.CreateContainer
	case "startContainer":
		return &h.StartContainer
	case "poststart":
		return &h.Poststart
	case "poststop":
		return &h.Poststop
	}
	return &h.CreateRuntime
}

// found is a hook and the file that it is from.
type found struct {
	*hook.Hook
	path string
}

// read returns the hooks by the names of their files.
func (d Dirs) read() (map[string]found, error) {
	all := map[string]found{}
	var wrong []error
	for _, dir := range d {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && len(entries) > maxFiles {
			err = fmt.Errorf("%s has more than %d files", dir, maxFiles)
		}
		if err != nil {
			return nil, fmt.Errorf("read hooks: %w", err)
		}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			h, err := readFile(path)
			switch {
			case err != nil:
				wrong = append(wrong, fmt.Errorf("hook %s: %w", path, err))
			case h != nil:
				all[entry.Name()] = found{h, path}
			}
		}
	}
	return all, errors.Join(wrong...)
}

// readFile returns the hook of a file; nil if the file is of another kind, or gone by now.
func readFile(path string) (*hook.Hook, error) {
	if !strings.HasSuffix(path, ".json") {
		return nil, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, errors.New("is a link that leads nowhere")
	}
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	case info.Size() > maxFile:
		return nil, fmt.Errorf("has more than %d bytes", maxFile)
	}
	h, err := hooks.Read(path, nil)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(h.Hook.Path) {
		return nil, fmt.Errorf("hook.path: %q is not absolute", h.Hook.Path)
	}
	return h, nil
}
