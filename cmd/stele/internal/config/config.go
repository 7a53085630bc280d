package config

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/executors/cdi"
	"github.com/stele-runtime/stele/executors/hooks"
)

// maxSocketPath is the longest path of a Unix socket: sun_path in unix(7) without the
// zero.
const maxSocketPath = 107

// Config is the complete configuration.
type Config struct {
	// Root holds what survives a reboot: the event log and the images.
	Root string `toml:"root"`
	// State holds what does not: mounts, namespaces, bundles, sockets.
	State string `toml:"state"`
	// Listen is the address of the CRI socket, unix:///PATH.
	Listen string `toml:"listen"`
	// Monitor is the path of stele-monitor; empty means beside this program, or
	// else from PATH.
	Monitor string `toml:"monitor"`
	// MonitorCgroup is the cgroup that a new monitor joins, below the root of the
	// hierarchies; empty: the daemon's.
	MonitorCgroup string `toml:"monitor_cgroup"`
	// LogLevel is the least level that is logged: debug, info, warn or error.
	LogLevel string `toml:"log_level"`

	Network   Network   `toml:"network"`
	Runtime   Runtime   `toml:"runtime"`
	Image     Image     `toml:"image"`
	Storage   Storage   `toml:"storage"`
	NRI       NRI       `toml:"nri"`
	Metrics   Metrics   `toml:"metrics"`
	Stats     Stats     `toml:"stats"`
	Streaming Streaming `toml:"streaming"`
	History   History   `toml:"history"`
	Backup    Backup    `toml:"backup"`
}

// Default is the configuration without a file and flags.
func Default() Config {
	return Config{
		Root:      "/var/lib/stele",
		State:     "/run/stele",
		Listen:    places.Listen,
		LogLevel:  "info",
		Network:   defaultNetwork(),
		Runtime:   Runtime{HooksDir: hooks.DefaultDirs(), CDISpecDirs: cdi.DefaultDirs(), MinimumMappableUID: -1, MinimumMappableGID: -1, Confinement: defaultConfinement()},
		Image:     defaultImage(),
		NRI:       defaultNRI(),
		Stats:     defaultStats(),
		Streaming: defaultStreaming(),
		History:   defaultHistory(),
		Backup:    defaultBackup(),
	}
}

// Socket is the path of the CRI socket.
func (c *Config) Socket() string { return strings.TrimPrefix(c.Listen, "unix://") }

// Level is the least level that is logged.
func (c *Config) Level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // checked
	return level
}

// complete fills in what depends on the machine, and reports all unusable values at once.
func (c *Config) complete() error {
	return errors.Join(
		c.checkDirs(), c.checkListen(), c.completeMonitor(), c.checkLevel(),
		c.Network.complete(), c.Runtime.complete(), c.Image.check(), c.Storage.check(), c.Streaming.check(), c.NRI.check(), c.Metrics.check(), c.Stats.check(), c.History.check(), c.Backup.check(),
	)
}

// checkDirs makes root and state absolute, without links. The daemon owns all that is in
// them, and sets their modes.
func (c *Config) checkDirs() error {
	err := errors.Join(absolute("root", &c.Root), absolute("state", &c.State))
	if err != nil {
		return err
	}
	if err := errors.Join(resolve("root", &c.Root), resolve("state", &c.State)); err != nil {
		return err
	}
	for key, dir := range map[string]string{"root": c.Root, "state": c.State} {
		if dir == "/" {
			return refuse(key, dir, "is the file system's root, and the directory must be the daemon's alone")
		}
	}
	if c.Root == c.State {
		return refuse("state", c.State, "is the same directory as root, which must survive a reboot")
	}
	return nil
}

func (c *Config) checkListen() error {
	path, ok := strings.CutPrefix(c.Listen, "unix://")
	switch {
	case !ok || !filepath.IsAbs(path):
		return refuse("listen", c.Listen, "is not unix:///PATH")
	case len(path) > maxSocketPath:
		return refuse("listen", c.Listen, "has a path of %d bytes; a socket's path has at most %d", len(path), maxSocketPath)
	}
	return nil
}

func (c *Config) checkLevel() error {
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		return refuse("log_level", c.LogLevel, "is not debug, info, warn or error")
	}
	return nil
}

func (c *Config) completeMonitor() error {
	if c.MonitorCgroup != "" && (!filepath.IsAbs(c.MonitorCgroup) || filepath.Clean(c.MonitorCgroup) != c.MonitorCgroup) {
		return refuse("monitor_cgroup", c.MonitorCgroup, "is not an absolute, clean path")
	}
	if c.Monitor == "" {
		return c.findMonitor()
	}
	if err := absolute("monitor", &c.Monitor); err != nil {
		return err
	}
	if _, err := exec.LookPath(c.Monitor); err != nil {
		return refuse("monitor", c.Monitor, "cannot be run: %w", errors.Unwrap(err))
	}
	return nil
}

func (c *Config) findMonitor() error {
	const name = "stele-monitor"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			c.Monitor = beside
			return nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return refuse("monitor", "", "is not set, and %s is neither beside this program nor in PATH", name)
	}
	c.Monitor = path
	return absolute("monitor", &c.Monitor)
}
