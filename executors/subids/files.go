package subids

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
)

// Files are where ranges of ids are listed, and whose count.
type Files struct {
	UIDs, GIDs string
	// Owner is the name in the lists; lines with its number count, too.
	Owner string
}

// OfNode are the node's lists.
func OfNode(owner string) Files {
	return Files{UIDs: "/etc/subuid", GIDs: "/etc/subgid", Owner: owner}
}

// Range are the ids from Start on.
type Range struct{ Start, Length uint32 }

// most bounds a list, in bytes.
const most = 1 << 20

// Read reads the lists. It is an error if one of them has nothing for the owner.
func (f Files) Read() (uids, gids []Range, err error) {
	names := []string{f.Owner}
	if account, err := user.Lookup(f.Owner); err == nil {
		names = append(names, account.Uid)
	}
	if uids, err = read(f.UIDs, names); err != nil {
		return nil, nil, err
	}
	gids, err = read(f.GIDs, names)
	return uids, gids, err
}

func read(path string, names []string) ([]Range, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ids of %q: %w", names[0], err)
	}
	defer func() { _ = file.Close() }() // read-only
	data, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("read the ids of %q: %w", names[0], err)
	}
	if len(data) > most {
		return nil, fmt.Errorf("read the ids of %q: %s has more than %d bytes", names[0], path, most)
	}
	found, err := parse(data, names)
	if err != nil {
		return nil, fmt.Errorf("read the ids of %q: %s: %w", names[0], path, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("read the ids of %q: %s has none", names[0], path)
	}
	return found, nil
}

// parse reads lines of NAME:START:LENGTH. A damaged line of another owner is not looked at.
func parse(data []byte, names []string) (found []Range, err error) {
	for line := range bytes.Lines(data) {
		parts := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		if !is(parts[0], names) {
			continue
		}
		if len(parts) != 3 {
			return nil, fmt.Errorf("the line %.100q is not NAME:START:LENGTH", line)
		}
		start, err := strconv.ParseUint(string(parts[1]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the line %.100q does not start at an id", line)
		}
		length, err := strconv.ParseUint(string(parts[2]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the line %.100q has no number of ids", line)
		}
		found = append(found, Range{Start: uint32(start), Length: uint32(length)})
	}
	return found, nil
}

func is(name []byte, names []string) bool {
	for _, n := range names {
		if string(name) == n {
			return true
		}
	}
	return false
}
