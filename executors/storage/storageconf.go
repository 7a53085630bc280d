package storage

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	driverconfig "go.podman.io/storage/pkg/config"
	"go.podman.io/storage/pkg/configfile"
	"go.podman.io/storage/types"
)

const (
	// confVariable names a storage.conf that replaces all others, for every program with
	// this library.
	confVariable = "CONTAINERS_STORAGE_CONF"
	// maxConfFile bounds what is read of one configuration file, in bytes.
	maxConfFile = 1 << 20

	defaultGraphRoot = "/var/lib/containers/storage"
	defaultRunRoot   = "/run/containers/storage"
)

// obsoleteKeys are keys of earlier versions of storage.conf, which the library ignores. A
// node's old file must not keep Stele from starting, so they are only logged. A trailing
// dot stands for a table.
var obsoleteKeys = []string{
	"storage.options.thinpool.", "storage.options.aufs.", "storage.options.devicemapper.",
	"storage.options.remap-uids", "storage.options.remap-gids",
	"storage.options.remap-user", "storage.options.remap-group",
	"storage.options.ostree_repo", "storage.options.override_kernel_check",
	// The library's parser accepts it, and nobody reads it: it counts only in the table
	// [storage].
	"storage.options.imagestore",
	"storage.options.use_composefs",
}

// storageConf is the merged content of the storage.conf files.
type storageConf struct {
	types.TomlConfig

	files []string // that were read; a later one overrides an earlier one
}

// readStorageConf reads path, or if that is empty, the library's usual files: the file that
// CONTAINERS_STORAGE_CONF names, or the first of /etc/containers/storage.conf and
// /usr/share/containers/storage.conf and then their drop-in directories.
//
// The library ignores unknown keys, and reports wrong values without saying where they are,
// if at all. Here both are errors that name the file and the key.
func readStorageConf(path string, log *slog.Logger) (*storageConf, error) {
	conf := &storageConf{}
	lookup := &configfile.File{
		Name: "storage", Extension: "conf", EnvironmentName: confVariable,
		CustomConfigFilePath: path, DoNotLoadDropInFiles: path != "",
		UserId: os.Geteuid(),
	}
	for item, err := range configfile.Read(lookup) {
		if err != nil {
			return nil, fmt.Errorf("read storage.conf: %w", err)
		}
		if err := conf.add(item, log); err != nil {
			return nil, fmt.Errorf("storage.conf %s: %w", item.Name, err)
		}
	}
	return conf, nil
}

// add reads one more file, which overrides those before it.
func (c *storageConf) add(item *configfile.Item, log *slog.Logger) error {
	content, err := io.ReadAll(io.LimitReader(item.Reader, maxConfFile+1))
	if err != nil {
		return err
	}
	if len(content) > maxConfFile {
		return fmt.Errorf("it has more than %d bytes", maxConfFile)
	}
	// Once by itself, so that errors name the file of a wrong value.
	var own types.TomlConfig
	meta, err := toml.Decode(string(content), &own)
	if err != nil {
		return err
	}
	if err := checkKeys(item.Name, meta, log); err != nil {
		return err
	}
	if err := checkValues(&own); err != nil {
		return err
	}
	if _, err := toml.Decode(string(content), &c.TomlConfig); err != nil {
		return err
	}
	c.files = append(c.files, item.Name)
	return nil
}

func checkKeys(file string, meta toml.MetaData, log *slog.Logger) error {
	undecoded := map[string]bool{}
	for _, key := range meta.Undecoded() {
		undecoded[key.String()] = true
	}
	for _, key := range meta.Keys() {
		name := key.String()
		switch {
		case slices.ContainsFunc(obsoleteKeys, func(old string) bool {
			return name == old || strings.HasPrefix(name+".", old) && strings.HasSuffix(old, ".")
		}):
			log.Warn("a key of storage.conf has no effect", "file", file, "key", name)
		case undecoded[name]:
			return fmt.Errorf("there is no key %s", name)
		}
	}
	return nil
}

// options returns the settings of the files and of the library's environment variables,
// with the library's precedence.
func (c *storageConf) options() (types.StoreOptions, error) {
	given := &c.Storage
	options := types.StoreOptions{
		GraphRoot:           defaultGraphRoot,
		RunRoot:             defaultRunRoot,
		ImageStore:          given.ImageStore,
		GraphDriverName:     given.Driver,
		GraphDriverPriority: given.DriverPriority.Values,
		GraphDriverOptions:  driverOptions(&given.Options),
		PullOptions:         given.Options.PullOptions,
		RootAutoNsUser:      given.Options.RootAutoUsernsUser,
		AutoNsMinSize:       given.Options.AutoUsernsMinSize,
		AutoNsMaxSize:       given.Options.AutoUsernsMaxSize,
		DisableVolatile:     given.Options.DisableVolatile,
		TransientStore:      given.TransientStore,
	}
	if given.GraphRoot != "" {
		options.GraphRoot = expandPath(given.GraphRoot)
	}
	if given.RunRoot != "" {
		options.RunRoot = expandPath(given.RunRoot)
	}
	if name := os.Getenv("STORAGE_DRIVER"); name != "" {
		options.GraphDriverName = name
	}
	if list, set := os.LookupEnv("STORAGE_OPTS"); set {
		options.GraphDriverOptions = nil
		if list != "" {
			options.GraphDriverOptions = strings.Split(list, ",")
		}
	}
	if options.ImageStore != "" && options.ImageStore == options.GraphRoot {
		return types.StoreOptions{}, errors.New("storage.imagestore is the same directory as storage.graphroot")
	}
	return options, nil
}

// expandPath expands environment variables and UID, and follows links, as the library does.
func expandPath(path string) string {
	path = os.Expand(path, func(name string) string {
		if name == "UID" {
			return strconv.Itoa(os.Geteuid())
		}
		return os.Getenv(name)
	})
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return filepath.Clean(path)
}

// driverOptions returns the driver's settings as the library wants them. The table
// [storage.options] is for any driver, its sub-tables are for one each.
func driverOptions(given *driverconfig.OptionsConfig) []string {
	var options []string
	add := func(key, value string) {
		if value != "" {
			options = append(options, key+"="+value)
		}
	}
	for _, store := range given.AdditionalImageStores.Values {
		add("imagestore", store)
	}
	for _, store := range given.AdditionalLayerStores.Values {
		add("additionallayerstore", store)
	}
	add("size", given.Size)
	add("mount_program", given.MountProgram)
	add("skip_mount_home", given.SkipMountHome)
	add("ignore_chown_errors", given.IgnoreChownErrors)
	if given.ForceMask != 0 {
		add("force_mask", strconv.FormatUint(uint64(given.ForceMask), 8))
	}
	add("mountopt", given.MountOpt)
	return append(options, driverconfig.GetGraphDriverOptions(*given)...)
}
