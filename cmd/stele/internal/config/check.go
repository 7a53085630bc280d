package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// refuse is the error of a key whose value cannot work. It completes the sentence
// "<key>: <value> …".
func refuse(key string, value any, why string, args ...any) error {
	if s, is := value.(string); is {
		value = fmt.Sprintf("%q", s)
	}
	return fmt.Errorf("%s: %v "+why, append([]any{key, value}, args...)...)
}

// absolute makes a path absolute that may be relative to the working directory, as on
// a command line.
func absolute(key string, path *string) error {
	if *path == "" {
		return refuse(key, "", "is not a path")
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return refuse(key, *path, "cannot be made absolute: %w", err)
	}
	*path = abs
	return nil
}

// resolve puts what the links in a directory's path lead to into its place: /var/run is
// one on many nodes, and so is whatever moved to a larger disk. Mounts are known by the
// resolved path, and below it no link is followed. The directory's end may be missing.
func resolve(key string, path *string) error {
	if !filepath.IsAbs(*path) {
		return nil // empty, or refused already
	}
	var missing []string
	for existing := filepath.Clean(*path); ; existing = filepath.Dir(existing) {
		resolved, err := filepath.EvalSymlinks(existing)
		if err == nil {
			*path = filepath.Join(append([]string{resolved}, missing...)...)
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return refuse(key, *path, "cannot be resolved: %w", cause(err))
		}
		if _, err := os.Lstat(existing); err == nil {
			return refuse(key, *path, "has a link that leads nowhere: %s", existing)
		}
		missing = append([]string{filepath.Base(existing)}, missing...)
	}
}

// file checks the path of a file that the daemon only reads. Empty is accepted.
func file(key, path string) error {
	if err := isAbsolute(key, path); err != nil || path == "" {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return refuse(key, path, "cannot be read: %w", cause(err))
	case info.IsDir():
		return refuse(key, path, "is a directory and not a file")
	}
	return nil
}

// dir checks the path of a directory. Empty is accepted, and so is one that is not
// there yet.
func dir(key, path string) error {
	if err := isAbsolute(key, path); err != nil || path == "" {
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return refuse(key, path, "is not a directory")
	}
	return nil
}

func isAbsolute(key, path string) error {
	if path != "" && !filepath.IsAbs(path) {
		return refuse(key, path, "is not an absolute path")
	}
	return nil
}

// cause is err without the operation and the path, which the caller says already.
func cause(err error) error {
	if p, is := err.(*os.PathError); is { //nolint:errorlint // os.Stat returns it bare
		return p.Err
	}
	return err
}
