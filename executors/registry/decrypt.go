package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/utils"
)

// maxKeySize bounds one file of the directory of decryption keys, in bytes.
const maxKeySize = 1 << 20

// decryptionKeys reads the keys for encrypted layers: every file in the directory and below
// is one. Nil means none. Symbolic links are refused, as by CRI-O. No error shows any part
// of a key.
func decryptionKeys(dir string) (*config.DecryptConfig, error) {
	if dir == "" {
		return nil, nil
	}
	var keys []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == dir:
			return filepath.SkipAll
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file", path)
		}
		key, err := readAtMost(path, maxKeySize)
		if err != nil {
			return err
		}
		keys = append(keys, base64.StdEncoding.EncodeToString(key))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read decryption keys: %w", err)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	sorted, err := utils.SortDecryptionKeys(strings.Join(keys, ","))
	if err != nil {
		return nil, fmt.Errorf("read decryption keys in %s: %w", dir, err)
	}
	return config.InitDecryption(sorted).DecryptConfig, nil
}

// readAtMost reads a file that is known to be small.
func readAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, limit)
	}
	return os.ReadFile(path)
}
