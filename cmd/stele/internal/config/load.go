package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
)

// Flags are the flags of `stele serve`.
type Flags struct {
	file       string
	overlay    Config
	runtimes   []string
	pluginDirs []string
}

// Register adds the flags to a command's.
func (f *Flags) Register(flags *pflag.FlagSet) {
	d := Default()
	flags.StringVar(&f.file, "config", places.ConfigFile, "configuration `FILE`; may be missing")
	flags.StringVar(&f.overlay.Root, "root", d.Root, "`DIR` for what survives a reboot: event log and images")
	flags.StringVar(&f.overlay.State, "state", d.State, "`DIR` for what does not: mounts, namespaces, bundles")
	flags.StringVar(&f.overlay.Listen, "listen", d.Listen, "`ADDRESS` of the CRI socket")
	flags.StringVar(&f.overlay.Network.ConfDir, "cni-conf-dir", d.Network.ConfDir, "`DIR` with CNI configurations")
	flags.StringSliceVar(&f.pluginDirs, "cni-plugin-dirs", d.Network.PluginDirs, "`DIRS` with CNI plugins, separated by commas")
	flags.StringArrayVar(&f.runtimes, "runtime", nil, "runtime handler as `NAME=PATH`; may be repeated, the first one is the default")
	flags.StringVar(&f.overlay.Monitor, "monitor", "", "`PATH` of stele-monitor (default: beside stele, or from PATH)")
	flags.StringVar(&f.overlay.LogLevel, "log-level", d.LogLevel, "least `LEVEL` to log: debug, info, warn or error")
}

// Load returns the configuration: flags override the file, and the file overrides the
// defaults.
func (f *Flags) Load(flags *pflag.FlagSet) (Config, error) {
	c, err := f.read(flags)
	if err != nil {
		return Config{}, err
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
		if err := f.layRuntimes(&c); err != nil {
			return Config{}, err
		}
	}
	if err := c.complete(); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// read returns the file over the defaults. Only the default file may be missing.
func (f *Flags) read(flags *pflag.FlagSet) (Config, error) {
	c := Default()
	meta, err := toml.DecodeFile(f.file, &c)
	if errors.Is(err, fs.ErrNotExist) && !flags.Changed("config") {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the configuration %s: %w", f.file, err)
	}
	return c, refuseUnknown(f.file, meta.Undecoded())
}

func (f *Flags) layRuntimes(c *Config) error {
	inFile := c.Runtime.Handlers
	c.Runtime.Default, c.Runtime.Handlers = "", map[string]Handler{}
	for _, r := range f.runtimes {
		name, path, ok := strings.Cut(r, "=")
		if !ok || name == "" || path == "" {
			return fmt.Errorf("--runtime %q is not NAME=PATH", r)
		}
		handler := inFile[name] // what else the file says of it
		handler.Path, handler.InheritDefaultRuntime = path, false
		c.Runtime.Handlers[name] = handler
		c.Runtime.Default = cmp.Or(c.Runtime.Default, name)
	}
	return nil
}
