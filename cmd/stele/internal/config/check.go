package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// refuse is the error of a key with an unusable value; why completes the sentence
// "<key>: <value> …".
func refuse(key string, value any, why string, args ...any) error {
	if s, is := value.(string); is {
		value = fmt.Sprintf("%q", s)
	}
	return fmt.Errorf("%s: %v "+why, append([]any{key, value}, args...)...)
}

// absolute makes a path absolute; on a command line it may be relative.
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

// resolve resolves the links in a directory's path: /var/run is a link on many nodes, and
// so are directories that moved to a larger disk. The kernel lists mounts by resolved
// paths, and below the directory no link is followed. It need not exist yet.
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

// file checks the path of a file that the daemon reads, unless it is empty.
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

// dir checks the path of a directory, unless it is empty. It need not exist yet.
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

// cause is err without operation and path, which the caller adds.
func cause(err error) error {
	if p, is := errors.AsType[*fs.PathError](err); is {
		return p.Err
	}
	return err
}
