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
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// record is what is known of an attachment. It is on disk from before the first
// plugin runs until DEL has succeeded.
type record struct {
	// Config is the network's configuration as it was at the ADD; empty in a record
	// that is damaged.
	Config json.RawMessage
	Pod    Pod
	// Result is the CNI result; empty while it is not known how the ADD ended.
	Result json.RawMessage `json:",omitempty"`
}

const (
	// recordMost bounds what is read of a record, in bytes.
	recordMost = 8 << 20
	// unfinished is the suffix of a record that is being written.
	unfinished = ".new"
)

var podID = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_.-]{0,127}$`)

func (d *Driver) recordPath(id string) string {
	return filepath.Join(d.config.CacheDir, "attachments", id+".json")
}

// load returns the record of a pod; false if there is none. A power failure can
// leave a record without its content: then all that is known is that there may be
// something to undo.
func (d *Driver) load(id string) (record, bool, error) {
	if !podID.MatchString(id) {
		return record{}, false, invalid("pod id %.200q is not an id", id)
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
	if err := json.Unmarshal(b, &r); err != nil || r.Pod.ID != id {
		d.config.Logger.Warn("record of an attachment is damaged", "pod", id, "path", d.recordPath(id), "error", err)
		return record{}, true, nil
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
	// It is not synced: after a power failure no pod runs, and what was attached
	// can be undone with the network's present configuration as well.
	if err := os.WriteFile(path+unfinished, b, 0o600); err != nil {
		return fmt.Errorf("write the record of the attachment: %w", err)
	}
	if err := os.Rename(path+unfinished, path); err != nil {
		return fmt.Errorf("write the record of the attachment: %w", err)
	}
	return nil
}

// forget removes the record of a pod, and what a crash in store may have left.
func (d *Driver) forget(id string) error {
	path := d.recordPath(id)
	for _, path := range []string{path + unfinished, path} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the record of the attachment: %w", err)
		}
	}
	return nil
}

// recorded returns the ids of all pods that have a record, complete or not; one
// with both may be listed twice.
func (d *Driver) recorded() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(d.recordPath("")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the records of attachments: %w", err)
	}
	var ids []string
	for _, entry := range entries {
		if id, ok := strings.CutSuffix(strings.TrimSuffix(entry.Name(), unfinished), ".json"); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// network returns the configuration that the pod was attached with.
func (r record) network() (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(r.Config)
	if err != nil {
		return nil, fmt.Errorf("read the configuration that the pod was attached with: %w", err)
	}
	return list, nil
}
