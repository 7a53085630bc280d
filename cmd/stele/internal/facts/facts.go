// Package facts collects, for stele log export, what the events do not say of a node: its
// kernel, versions and configurations, and the ends of containers' logs. Secrets are removed;
// what cannot be read is left out with a warning.
//
// It must not know what a bundle is, nor change anything.
package facts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/stele-runtime/stele/actors/redact"
	"github.com/stele-runtime/stele/cmd/stele/internal/places"
	"github.com/stele-runtime/stele/timeline"
)

const (
	// fileMost bounds a file that is read, and the end of a log, in bytes.
	fileMost = 1 << 20
	// filesMost bounds the files of a directory.
	filesMost = 100
	// cniDefault is where the network's configurations are if the daemon does not say.
	cniDefault = "/etc/cni/net.d"
)

// Node is the node that this program runs on.
type Node struct {
	// Stele is this program's version.
	Stele string
	// Config is the daemon's configuration file; empty for the usual one.
	Config string
	// Info asks a running daemon for the info of its status; nil if none runs.
	Info     func() (map[string]string, error)
	Warnings io.Writer
}

func (n Node) warn(what string, err error) {
	fmt.Fprintf(n.Warnings, "stele: left out: %s: %v\n", what, err)
}

// Write gives the facts to file, by the name that they are to have.
func (n Node) Write(file func(name string, content []byte) error) error {
	about := map[string]any{"stele": n.Stele, "architecture": runtime.GOARCH, "cpus": runtime.NumCPU()}
	for key, path := range map[string]string{
		"kernel": "/proc/version", "commandLine": "/proc/cmdline", "memory": "/proc/meminfo", "system": "/etc/os-release", "bootID": "/proc/sys/kernel/random/boot_id",
	} {
		if content, err := head(path); err != nil {
			n.warn(path, err)
		} else {
			about[key] = strings.Split(strings.TrimSpace(string(content)), "\n")
		}
	}
	cni := cniDefault
	if n.Info != nil {
		info, err := n.Info()
		if err != nil {
			n.warn("the daemon's status", err)
		}
		shown := map[string]json.RawMessage{}
		for key, value := range info {
			if json.Valid([]byte(value)) {
				shown[key] = json.RawMessage(redact.Text(value))
			}
		}
		about["daemon"] = shown
		var config struct {
			ConfDir string `json:"cniConfDir"`
		}
		if json.Unmarshal(shown["config"], &config) == nil && config.ConfDir != "" {
			cni = config.ConfDir
		}
	}
	content, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the node's facts: %w", err)
	}
	if err := file("node/facts.json", append(content, '\n')); err != nil {
		return err
	}
	if err := n.config(file); err != nil {
		return err
	}
	return n.networks(cni, file)
}

func (n Node) config(file func(string, []byte) error) error {
	path, chosen := places.ConfigFile, n.Config != ""
	if chosen {
		path = n.Config
	}
	content, err := head(path)
	if errors.Is(err, fs.ErrNotExist) && !chosen {
		return nil // it may be missing
	}
	if err != nil {
		n.warn(path, err)
		return nil
	}
	return file("node/config.toml", []byte(redact.Text(string(content))))
}

// networks adds the network's configurations. They are JSON; nothing else is taken, since
// nobody can tell what is secret in it.
func (n Node) networks(dir string, file func(string, []byte) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			n.warn(dir, err)
		}
		return nil
	}
	for _, e := range entries[:min(len(entries), filesMost)] {
		if !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		content, err := head(path)
		var value any
		if err == nil {
			err = json.Unmarshal(content, &value)
		}
		if err != nil {
			n.warn(path, err)
			continue
		}
		content, err = json.MarshalIndent(hidden(value), "", "  ")
		if err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		if err := file("node/cni/"+e.Name(), append(content, '\n')); err != nil {
			return err
		}
	}
	return nil
}

var secretKey = regexp.MustCompile(`(?i)passw|secret|token|credential|auth|private|(^|[^a-z])key`)

// hidden is a JSON value without what its names say is secret, and without credentials in
// addresses.
func hidden(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			if secretKey.MatchString(name) {
				value[name] = redact.Mark
				continue
			}
			value[name] = hidden(inner)
		}
	case []any:
		for i := range value {
			value[i] = hidden(value[i])
		}
	case string:
		return redact.Text(value)
	}
	return value
}

// Logs gives the ends of containers' logs to file.
func (n Node) Logs(of *timeline.Timeline, file func(name string, content []byte) error) error {
	for _, c := range of.AllContainers() {
		path := c.State.Request.LogPath
		if path == "" {
			continue
		}
		content, err := tail(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the kubelet removes those of pods that are gone
		}
		if err != nil {
			n.warn(path, err)
			continue
		}
		if err := file("logs/"+string(c.State.ID)+".log", content); err != nil {
			return err
		}
	}
	return nil
}

// head reads a file, which may be of a kind that has no size.
func head(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	content, err := io.ReadAll(io.LimitReader(f, fileMost+1))
	if err == nil && len(content) > fileMost {
		err = fmt.Errorf("it has more than %d bytes", fileMost)
	}
	return content, err
}

// tail reads the end of a file, from the begin of a line.
func tail(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-fileMost)
	content, err := io.ReadAll(io.NewSectionReader(f, from, fileMost))
	if from > 0 && err == nil {
		_, after, _ := strings.Cut(string(content), "\n")
		content = []byte(after)
	}
	return content, err
}

// open opens a regular file. A pipe would let it wait for ever.
func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a file but %v", info.Mode().Type())
	}
	return os.Open(path)
}
