package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/containernetworking/cni/libcni"
)

// record is what is known of an attachment, on disk from before the first plugin
// runs until DEL has succeeded.
type record struct {
	// Config is the network's configuration as it was at the ADD.
	Config json.RawMessage
	Pod    Pod
	// Result is the CNI result; empty while it is not known how the ADD ended.
	Result json.RawMessage `json:",omitempty"`
}

// recordMost bounds what is read of a record, in bytes.
const recordMost = 8 << 20

var podID = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_.-]{0,127}$`)

func (d *Driver) recordPath(id string) string {
	return filepath.Join(d.config.CacheDir, "attachments", id+".json")
}

// load returns the record of a pod; false if there is none, and so nothing that
// could be attached.
func (d *Driver) load(id string) (record, bool, error) {
	if !podID.MatchString(id) {
		return record{}, false, fmt.Errorf("pod id %.100q is not an id", id)
	}
	f, err := os.Open(d.recordPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read the record of the attachment: %w", err)
	}
	defer func() { _ = f.Close() }() // read-only
	b, err := io.ReadAll(io.LimitReader(f, recordMost))
	if err != nil {
		return record{}, false, fmt.Errorf("read the record of the attachment: %w", err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, false, fmt.Errorf("decode the record of the attachment %s: %w", d.recordPath(id), err)
	}
	return r, true, nil
}

// store replaces the record of a pod as a whole.
func (d *Driver) store(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of the attachment: %w", err)
	}
	path := d.recordPath(r.Pod.ID)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the record of the attachment: %w", err)
	}
	// After a power failure no pod runs, and what its addresses need to be freed
	// is asked of the plugins by GC: no sync.
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("write the record of the attachment: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the record of the attachment: %w", err)
	}
	return nil
}

func (d *Driver) forget(id string) error {
	if err := os.Remove(d.recordPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of the attachment: %w", err)
	}
	return nil
}

// recorded returns the ids of all pods that have a record.
func (d *Driver) recorded() ([]string, error) {
	names, err := filepath.Glob(d.recordPath("*"))
	if err != nil {
		return nil, fmt.Errorf("list the records of attachments: %w", err)
	}
	ids := make([]string, len(names))
	for i, name := range names {
		base := filepath.Base(name)
		ids[i] = base[:len(base)-len(".json")]
	}
	return ids, nil
}

func (r record) network() (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(r.Config)
	if err != nil {
		return nil, fmt.Errorf("read the configuration that the pod was attached with: %w", err)
	}
	return list, nil
}
