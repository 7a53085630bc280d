package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"go.podman.io/storage/types"
)

// A confValue is a key of storage.conf, its value and its check.
type confValue struct {
	key, value string
	check      func(string) error
}

// checkValues checks every value that the library, or this package, would refuse later
// without naming its file, or would silently misread: the library reads
// enable_partial_images = "yes" as no.
func checkValues(conf *types.TomlConfig) error {
	storage, options := &conf.Storage, &conf.Storage.Options
	values := []confValue{
		{"driver", storage.Driver, isDriver},
		{"graphroot", storage.GraphRoot, isRoot},
		{"runroot", storage.RunRoot, isRoot},
		{"imagestore", storage.ImageStore, isRoot},
		{"options.size", options.Size, isSize},
		{"options.ignore_chown_errors", options.IgnoreChownErrors, isBool},
		{"options.skip_mount_home", options.SkipMountHome, isBool},
		{"options.mount_program", options.MountProgram, isProgram},
		{"options.overlay.size", options.Overlay.Size, isSize},
		{"options.overlay.inodes", options.Overlay.Inodes, isCount},
		{"options.overlay.ignore_chown_errors", options.Overlay.IgnoreChownErrors, isBool},
		{"options.overlay.skip_mount_home", options.Overlay.SkipMountHome, isBool},
		{"options.overlay.use_composefs", options.Overlay.UseComposefs, isBool},
		{"options.overlay.mount_program", options.Overlay.MountProgram, isProgram},
		{"options.overlay.force_mask", options.Overlay.ForceMask, isMask},
		{"options.overlay.sync", options.Overlay.Sync, isSyncMode},
		{"options.vfs.ignore_chown_errors", options.Vfs.IgnoreChownErrors, isBool},
		{"options.vfs.sync", options.Vfs.Sync, isSyncMode},
	}
	for _, name := range storage.DriverPriority.Values {
		values = append(values, confValue{"driver_priority", name, isKnownDriver})
	}
	for _, store := range options.AdditionalImageStores.Values {
		values = append(values, confValue{"options.additionalimagestores", store, isDirectory})
	}
	for _, store := range options.AdditionalLayerStores.Values {
		path, _, _ := strings.Cut(store, ":")
		values = append(values, confValue{"options.additionallayerstores", path, isDirectory})
	}
	for key, value := range options.PullOptions {
		values = append(values, confValue{"options.pull_options." + key, value, pullOptionCheck(key)})
	}
	for _, v := range values {
		if v.value == "" {
			continue
		}
		if err := v.check(v.value); err != nil {
			return fmt.Errorf("storage.%s = %q: %w", v.key, v.value, err)
		}
	}
	return nil
}

// knownDrivers are the library's names; supportedDrivers are those of them that this
// package can work with.
var (
	knownDrivers     = []string{"overlay", "overlay2", "vfs", "btrfs", "zfs"}
	supportedDrivers = []string{overlayDriver, vfsDriver}
)

func isDriver(name string) error {
	// overlay2 is Docker's name for the same driver, which old files have.
	if name == "overlay2" || slices.Contains(supportedDrivers, name) {
		return nil
	}
	return fmt.Errorf("this graph driver is not supported, only %s", strings.Join(supportedDrivers, " and "))
}

func isKnownDriver(name string) error {
	if slices.Contains(knownDrivers, name) {
		return nil
	}
	return errors.New("there is no such graph driver")
}

// isRoot allows variables, which are expanded later.
func isRoot(path string) error {
	if !filepath.IsAbs(path) && !strings.HasPrefix(path, "$") {
		return errors.New("the path is not absolute")
	}
	return nil
}

func isDirectory(path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("the path is not absolute")
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("it is not a directory")
	}
	return nil
}

func isProgram(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return errors.New("it is not a program")
	}
	return nil
}

func isBool(text string) error {
	if _, err := strconv.ParseBool(text); err != nil {
		return errors.New(`it must be "true" or "false"`)
	}
	return nil
}

func isSize(text string) error {
	if _, err := units.RAMInBytes(text); err != nil {
		return errors.New("it is not a size, which is a number and a unit: b, k, m or g")
	}
	return nil
}

func isCount(text string) error {
	if _, err := strconv.ParseUint(text, 10, 64); err != nil {
		return errors.New("it is not a number")
	}
	return nil
}

func isMask(text string) error {
	if text == "shared" || text == "private" {
		return nil
	}
	if _, err := strconv.ParseUint(text, 8, 12); err != nil {
		return errors.New("it must be shared, private, or permissions in octal")
	}
	return nil
}

func isSyncMode(text string) error {
	if text != "none" && text != "filesystem" {
		return errors.New("it must be none or filesystem")
	}
	return nil
}

func pullOptionCheck(key string) func(string) error {
	switch key {
	case "enable_partial_images", "use_hard_links", "convert_images", "insecure_allow_unpredictable_image_contents":
		return func(text string) error {
			// To the library, anything but "true" is false.
			if lower := strings.ToLower(text); lower != "true" && lower != "false" {
				return errors.New(`it must be "true" or "false"`)
			}
			return nil
		}
	case "ostree_repos":
		return func(string) error { return nil }
	}
	return func(string) error { return errors.New("there is no such key") }
}
