package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxConfig bounds a bundle's config.json, in bytes.
const maxConfig = 16 << 20

// writeConfig makes config.json, which names secrets of the container's
// environment: nobody but root may read it.
func writeConfig(bundle string, spec *specs.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write the bundle %s: %w", bundle, err)
	}
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	if err := replaceFile(configPath(bundle), data); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	return nil
}

// replaceFile leaves the old or the new content, whatever happens.
func replaceFile(path string, data []byte) error {
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(unfinished, data, 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}

// readConfig reads what writeConfig wrote; the error is fs.ErrNotExist if it
// never did.
func readConfig(bundle string) (*specs.Spec, error) {
	var spec specs.Spec
	if err := decodeConfig(bundle, &spec); err != nil {
		return nil, err
	}
	return &spec, nil
}

// readKept is readConfig for those who need no more than kept.
func readKept(bundle string) (*specs.Spec, error) {
	var k kept
	if err := decodeConfig(bundle, &k); err != nil {
		return nil, err
	}
	spec := &specs.Spec{Process: k.Process, Hooks: k.Hooks}
	if k.Linux != nil {
		spec.Linux = &specs.Linux{
			CgroupsPath: k.Linux.CgroupsPath, IntelRdt: k.Linux.IntelRdt,
			UIDMappings: k.Linux.UIDMappings, GIDMappings: k.Linux.GIDMappings,
		}
	}
	return spec, nil
}

// kept is what commands in a container, its signals and its end need of its specification. Most of
// the rest is a seccomp profile: to decode that as well takes ten times as long.
type kept struct {
	Process *specs.Process `json:"process"`
	Hooks   *specs.Hooks   `json:"hooks"`
	Linux   *struct {
		CgroupsPath string                 `json:"cgroupsPath"`
		IntelRdt    *specs.LinuxIntelRdt   `json:"intelRdt"`
		UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
		GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
	} `json:"linux"`
}

func decodeConfig(bundle string, into any) error {
	f, err := os.Open(configPath(bundle))
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return fmt.Errorf("read the bundle: %w", err)
	}
	if len(data) > maxConfig {
		return fmt.Errorf("read the bundle %s: its config.json is larger than %d bytes", bundle, maxConfig)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read the bundle %s: %w", bundle, err)
	}
	return nil
}

func configPath(bundle string) string { return filepath.Join(bundle, "config.json") }
func pidPath(bundle string) string    { return filepath.Join(bundle, "init.pid") }
