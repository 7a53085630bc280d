package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/stele-runtime/stele/executors/registry"
)

// config is what the configuration file and the flags say, a flag before the
// file and the file before the default.
type config struct {
	// Root holds what survives a reboot: the event log and the images.
	Root string `toml:"root"`
	// State holds what does not: mounts, namespaces, bundles, sockets.
	State string `toml:"state"`
	// Listen is the address of the CRI socket, unix:///PATH.
	Listen string `toml:"listen"`
	// Monitor is the path of stele-monitor; empty means beside this program, or
	// else from PATH.
	Monitor  string `toml:"monitor"`
	LogLevel string `toml:"log_level"`

	// MonitorCgroup is where a monitor that is started puts itself, below the root of
	// the hierarchies; empty: it stays in the daemon's.
	MonitorCgroup string `toml:"monitor_cgroup"`

	Network networkConfig `toml:"network"`
	Runtime runtimeConfig `toml:"runtime"`
	Image   imageConfig   `toml:"image"`
	Storage storageConfig `toml:"storage"`
	Metrics metricsConfig `toml:"metrics"`
}

type networkConfig struct {
	ConfDir    string   `toml:"conf_dir"`
	PluginDirs []string `toml:"plugin_dirs"`
}

type runtimeConfig struct {
	// Default is the handler that a pod gets that names none.
	Default string `toml:"default"`
	// CgroupDriver is cgroupfs or systemd; empty means cgroupfs.
	CgroupDriver string `toml:"cgroup_driver"`
	// MaxLogSize is the size in bytes at which a container's log starts anew, 0
	// for no limit. The kubelet rotates logs by itself.
	MaxLogSize int64 `toml:"max_log_size"`
	// Handlers maps the name of each handler to its runtime.
	Handlers map[string]handlerConfig `toml:"handlers"`
}

type handlerConfig struct {
	// Path is the OCI runtime, absolute or to be found in PATH.
	Path string `toml:"path"`
}

// imageConfig says where images come from. Keys that CRI-O has, too, have its
// names. An empty path means the file that all container tools on the node use.
type imageConfig struct {
	// PinnedImages holds names of images that the kubelet must not collect: whole
	// ones, or patterns with * at the end or at both.
	PinnedImages []string `toml:"pinned_images"`

	RegistriesConf    string `toml:"registries_conf"`
	RegistriesConfDir string `toml:"registries_conf_dir"`
	// ShortNameMode replaces short-name-mode of registries.conf.
	ShortNameMode string `toml:"short_name_mode"`
	// RegistriesDir is registries.d: where signatures are. CertsDir holds the CAs of
	// registries.
	RegistriesDir string `toml:"registries_dir"`
	CertsDir      string `toml:"certs_dir"`

	// SignaturePolicy is policy.json, SignaturePolicyDir holds those of namespaces.
	SignaturePolicy    string `toml:"signature_policy"`
	SignaturePolicyDir string `toml:"signature_policy_dir"`

	// GlobalAuthFile is auth.json, NamespacedAuthDir holds those of namespaces.
	GlobalAuthFile    string `toml:"global_auth_file"`
	NamespacedAuthDir string `toml:"namespaced_auth_dir"`

	// DecryptionKeysPath is a directory of private keys for encrypted layers.
	DecryptionKeysPath string `toml:"decryption_keys_path"`

	// BigFilesTemporaryDir is where layers wait to be unpacked.
	BigFilesTemporaryDir string `toml:"big_files_temporary_dir"`
	// PullProgressTimeout ends a pull to which nothing has come for so long; 0 for
	// never.
	PullProgressTimeout time.Duration `toml:"pull_progress_timeout"`
	// PullRetries is how often a pull is tried again after a failure that may pass.
	PullRetries int `toml:"pull_retries"`
	// ParallelLayers is how many layers of an image are fetched at a time.
	ParallelLayers uint `toml:"parallel_layers"`
}

// storageConfig says where images are kept. Without it they are below the daemon's
// own directories.
type storageConfig struct {
	// Conf is a storage.conf that counts whole, its directories included: the way to
	// share a store with podman and CRI-O. Empty: of the node's storage.conf only the
	// options of the driver count.
	Conf string `toml:"conf"`
	// Root and RunRoot replace the store's directories, ImageStore keeps images apart
	// from containers.
	Root       string `toml:"root"`
	RunRoot    string `toml:"runroot"`
	ImageStore string `toml:"imagestore"`
	// Driver is overlay or vfs, Options are as for CRI-O's storage_option.
	Driver  string   `toml:"storage_driver"`
	Options []string `toml:"storage_option"`
}

type metricsConfig struct {
	// Listen is HOST:PORT for Prometheus; empty: no metrics are served.
	Listen string `toml:"listen"`
}

func defaultConfig() config {
	return config{
		Root:     "/var/lib/stele",
		State:    "/run/stele",
		Listen:   "unix:///run/stele/stele.sock",
		LogLevel: "info",
		Network: networkConfig{
			ConfDir:    "/etc/cni/net.d",
			PluginDirs: []string{"/opt/cni/bin", "/usr/lib/cni"},
		},
		Image: imageConfig{
			PullProgressTimeout: time.Minute,
			PullRetries:         registry.DefaultRetries,
		},
	}
}

const defaultConfigFile = "/etc/stele/config.toml"

// serveFlags are the flags of `stele serve`.
type serveFlags struct {
	file       string
	overlay    config
	runtimes   []string
	pluginDirs []string
}

func (f *serveFlags) register(flags *pflag.FlagSet) {
	d := defaultConfig()
	flags.StringVar(&f.file, "config", defaultConfigFile, "configuration `FILE`; may be missing")
	flags.StringVar(&f.overlay.Root, "root", d.Root, "`DIR` for what survives a reboot: event log and images")
	flags.StringVar(&f.overlay.State, "state", d.State, "`DIR` for what does not: mounts, namespaces, bundles")
	flags.StringVar(&f.overlay.Listen, "listen", d.Listen, "`ADDRESS` of the CRI socket")
	flags.StringVar(&f.overlay.Network.ConfDir, "cni-conf-dir", d.Network.ConfDir, "`DIR` with CNI configurations")
	flags.StringSliceVar(&f.pluginDirs, "cni-plugin-dirs", d.Network.PluginDirs, "`DIRS` with CNI plugins, separated by commas")
	flags.StringArrayVar(&f.runtimes, "runtime", nil, "runtime handler as `NAME=PATH`; may be repeated, the first one is the default")
	flags.StringVar(&f.overlay.Monitor, "monitor", "", "`PATH` of stele-monitor (default: beside stele, or from PATH)")
	flags.StringVar(&f.overlay.LogLevel, "log-level", d.LogLevel, "least `LEVEL` to log: debug, info, warn or error")
}

// load reads the file and lays the flags that were given over it.
func (f *serveFlags) load(flags *pflag.FlagSet) (config, error) {
	c := defaultConfig()
	meta, err := toml.DecodeFile(f.file, &c)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !flags.Changed("config"):
	case err != nil:
		return c, fmt.Errorf("read the configuration %s: %w", f.file, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return c, fmt.Errorf("read the configuration %s: unknown keys: %v", f.file, unknown)
	}
	for name, lay := range map[string]func(){
		"root":            func() { c.Root = f.overlay.Root },
		"state":           func() { c.State = f.overlay.State },
		"listen":          func() { c.Listen = f.overlay.Listen },
		"cni-conf-dir":    func() { c.Network.ConfDir = f.overlay.Network.ConfDir },
		"cni-plugin-dirs": func() { c.Network.PluginDirs = f.pluginDirs },
		"monitor":         func() { c.Monitor = f.overlay.Monitor },
		"log-level":       func() { c.LogLevel = f.overlay.LogLevel },
	} {
		if flags.Changed(name) {
			lay()
		}
	}
	if flags.Changed("runtime") {
		c.Runtime.Default, c.Runtime.Handlers = "", map[string]handlerConfig{}
		for _, r := range f.runtimes {
			name, path, ok := strings.Cut(r, "=")
			if !ok || name == "" || path == "" {
				return c, fmt.Errorf("--runtime %q is not NAME=PATH", r)
			}
			c.Runtime.Handlers[name] = handlerConfig{Path: path}
			c.Runtime.Default = cmp.Or(c.Runtime.Default, name)
		}
	}
	return c, c.complete()
}

// complete fills in what depends on the machine and refuses what cannot work.
func (c *config) complete() error {
	for name, dir := range map[string]*string{"root": &c.Root, "state": &c.State} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*dir = abs
	}
	if _, err := c.socket(); err != nil {
		return err
	}
	if _, err := c.level(); err != nil {
		return err
	}
	if c.Monitor == "" {
		var err error
		if c.Monitor, err = findMonitor(); err != nil {
			return err
		}
	}
	if len(c.Runtime.Handlers) == 0 {
		c.Runtime.Handlers = map[string]handlerConfig{"runc": {Path: "runc"}}
	}
	if c.Runtime.Default == "" {
		c.Runtime.Default = slices.Min(slices.Collect(maps.Keys(c.Runtime.Handlers)))
	}
	if _, ok := c.Runtime.Handlers[c.Runtime.Default]; !ok {
		return fmt.Errorf("runtime.default: %q is not among the handlers", c.Runtime.Default)
	}
	if c.Image.PullProgressTimeout < 0 {
		return fmt.Errorf("image.pull_progress_timeout: %v is negative", c.Image.PullProgressTimeout)
	}
	if c.Image.PullRetries < 0 {
		return fmt.Errorf("image.pull_retries: %d is negative", c.Image.PullRetries)
	}
	for name, h := range c.Runtime.Handlers {
		path, err := exec.LookPath(h.Path)
		if err != nil {
			return fmt.Errorf("runtime handler %s: %w", name, err)
		}
		if h.Path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("runtime handler %s: %w", name, err)
		}
		c.Runtime.Handlers[name] = h
	}
	return nil
}

// socket returns the path of the CRI socket.
func (c *config) socket() (string, error) {
	path, ok := strings.CutPrefix(c.Listen, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return "", fmt.Errorf("listen: %q is not unix:///PATH", c.Listen)
	}
	return path, nil
}

func (c *config) level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return level, fmt.Errorf("log_level: %q is not debug, info, warn or error", c.LogLevel)
	}
	return level, nil
}

func findMonitor() (string, error) {
	const name = "stele-monitor"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("monitor: neither beside this program nor in PATH: %w", err)
	}
	return filepath.Abs(path)
}
