package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MountDirectoryRequest asks for a directory of the host as a read-only volume of a
// container: for the files of an OCI artifact, which have a directory and no layers.
type MountDirectoryRequest struct {
	// ID names the volume and its owner: see VolumeID.
	ID string
	// Dir is an absolute path of the daemon's choice, without links.
	Dir string
	// SubPath is a directory in Dir, as in MountImageRequest.
	SubPath string
	// Users are the mappings of the container's user namespace.
	Users IDMaps
}

// directoryVolume is the record of such a volume, as JSON beside its mountpoint. Both are
// in the run root, and gone after a reboot.
type directoryVolume struct {
	Dir     string `json:"dir"`
	SubPath string `json:"subPath,omitempty"`

	volumeID string
}

// directoryRecord ends such a file's name.
const directoryRecord = ".json"

// MountDirectory mounts a directory as MountImage mounts an image, and with the same
// promises; Unmount and Rootfses.Release undo it. The content may be an artifact's, and is
// trusted as little as an image. The directory's owner must keep it as long as the volume
// exists: see DirectoryUsers.
func (v *Volumes) MountDirectory(ctx context.Context, request MountDirectoryRequest) (path string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("mount directory %s as volume %s: %w", request.Dir, request.ID, err)
	}
	if !volumeID.MatchString(request.ID) {
		return fail(errVolumeID)
	}
	if !filepath.IsAbs(request.Dir) {
		return fail(errors.New("the path is not absolute"))
	}
	if err := checkSubPath(request.SubPath); err != nil {
		return fail(err)
	}
	end, err := v.layers.turns.take(ctx, request.ID)
	if err != nil {
		return fail(err)
	}
	defer end()
	if _, _, err := v.volumeRecord(request.ID); err == nil {
		return fail(fmt.Errorf("%w: it is of an image", ErrVolumeConflict))
	}
	wanted := directoryVolume{Dir: request.Dir, SubPath: request.SubPath, volumeID: request.ID}
	known, exists, err := v.directory(request.ID)
	if err != nil {
		return fail(err)
	}
	if exists && known != wanted {
		return fail(fmt.Errorf("%w: it is of directory %s with sub path %q", ErrVolumeConflict, known.Dir, known.SubPath))
	}
	path = v.layout.volumePath(request.ID)
	mounted, err := isMountpoint(path)
	if err != nil {
		return fail(err)
	}
	if mounted {
		return path, nil
	}
	if err := errors.Join(os.MkdirAll(path, 0o700), wanted.write(path+directoryRecord)); err != nil {
		return fail(err)
	}
	if err := mountDirectory(request.Dir, request.SubPath, path, request.Users); err != nil {
		return fail(errors.Join(err, v.unmount(context.WithoutCancel(ctx), request.ID)))
	}
	return path, nil
}

// DirectoryUsers returns the containers that have a volume of the directory, or of one
// below it. There is no lock: a caller that removes the directory must make sure that no
// volume of it is made meanwhile.
func (v *Volumes) DirectoryUsers(ctx context.Context, dir string) ([]string, error) {
	volumes, err := v.directories()
	if err != nil {
		return nil, fmt.Errorf("look for volumes of %s: %w", dir, err)
	}
	var containers []string
	for _, volume := range volumes {
		if volume.Dir == dir || strings.HasPrefix(volume.Dir, dir+"/") {
			containers = append(containers, volume.containerID())
		}
	}
	slices.Sort(containers)
	return slices.Compact(containers), ctx.Err()
}

func (v directoryVolume) containerID() string {
	container, _, _ := strings.Cut(v.volumeID, "-")
	return container
}

func (v directoryVolume) write(path string) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// Renamed, so that no torn record is ever read.
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// directory reads the record of a volume; exists is false if it is not one of a directory.
func (v *Volumes) directory(id string) (volume directoryVolume, exists bool, err error) {
	path := v.layout.volumePath(id) + directoryRecord
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return directoryVolume{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &volume)
	}
	if err != nil {
		return directoryVolume{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	volume.volumeID = id
	return volume, true, nil
}

func (v *Volumes) directories() ([]directoryVolume, error) {
	paths, err := filepath.Glob(filepath.Join(v.layout.runRoot, volumesDir, "*", "*"+directoryRecord))
	if err != nil {
		return nil, err
	}
	var volumes []directoryVolume
	for _, path := range paths {
		id := filepath.Base(filepath.Dir(path)) + "-" + strings.TrimSuffix(filepath.Base(path), directoryRecord)
		if !volumeID.MatchString(id) {
			continue
		}
		volume, exists, err := v.directory(id)
		if err != nil {
			return nil, err
		}
		if exists {
			volumes = append(volumes, volume)
		}
	}
	return volumes, nil
}
