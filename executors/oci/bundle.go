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
	f, err := os.Open(configPath(bundle))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("read the bundle %s: its config.json is larger than %d bytes", bundle, maxConfig)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("read the bundle %s: %w", bundle, err)
	}
	return &spec, nil
}

func configPath(bundle string) string { return filepath.Join(bundle, "config.json") }
func pidPath(bundle string) string    { return filepath.Join(bundle, "init.pid") }
