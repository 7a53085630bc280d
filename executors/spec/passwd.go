package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// maxAccountFile bounds /etc/passwd and /etc/group of an image, in bytes
// (CVE-2025-4437, CVE-2026-47262).
const maxAccountFile = 1 << 20

// maxID is the highest user or group id, as in the Kubernetes API. Ids above it
// turn negative, or into 0, in programs that keep them in 32 bits with a sign
// (CVE-2024-40635).
const maxID = 1<<31 - 1

// account is a line of /etc/passwd.
type account struct {
	name     string
	uid, gid string
}

// group is a line of /etc/group.
type group struct {
	name    string
	gid     string
	members string
}

// accounts are the users and groups of an image. Each file is read once, when
// it is first needed.
type accounts struct {
	rootfs string
	passwd []byte
	group  []byte
	// passwdRead and groupRead: the files were read, if there are any.
	passwdRead, groupRead bool
}

// userByName finds the first account with that name.
func (a *accounts) userByName(name string) (account, bool, error) {
	return a.user(func(u account) bool { return u.name == name })
}

// userByID finds the first account with that id.
func (a *accounts) userByID(uid uint32) (account, bool, error) {
	return a.user(func(u account) bool {
		id, err := parseID(u.uid)
		return err == nil && id == uid
	})
}

func (a *accounts) user(match func(account) bool) (account, bool, error) {
	if !a.passwdRead {
		data, err := readInRoot(a.rootfs, "/etc/passwd", maxAccountFile)
		if err != nil {
			return account{}, false, err
		}
		a.passwd, a.passwdRead = data, true
	}
	for line := range bytes.Lines(a.passwd) {
		if u, ok := parseAccount(line); ok && match(u) {
			return u, true, nil
		}
	}
	return account{}, false, nil
}

// groupByName finds the first group with that name.
func (a *accounts) groupByName(name string) (group, bool, error) {
	if err := a.readGroup(); err != nil {
		return group{}, false, err
	}
	for line := range bytes.Lines(a.group) {
		if g, ok := parseGroup(line); ok && g.name == name {
			return g, true, nil
		}
	}
	return group{}, false, nil
}

// groupsOf lists the ids of the groups that name the user as a member, in the
// order of the file. An id that is out of range is an error: to leave it out
// could give access that the group's members are denied.
func (a *accounts) groupsOf(user string) ([]uint32, error) {
	if err := a.readGroup(); err != nil {
		return nil, err
	}
	var ids []uint32
	for line := range bytes.Lines(a.group) {
		g, ok := parseGroup(line)
		if !ok || !g.has(user) {
			continue
		}
		id, err := parseID(g.gid)
		if err != nil {
			return nil, fmt.Errorf("group %q of user %q in /etc/group: %w", show(g.name), show(user), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (a *accounts) readGroup() error {
	if a.groupRead {
		return nil
	}
	data, err := readInRoot(a.rootfs, "/etc/group", maxAccountFile)
	if err != nil {
		return err
	}
	a.group, a.groupRead = data, true
	return nil
}

// parseAccount reads name:password:uid:gid:…; anything else is no account.
func parseAccount(line []byte) (account, bool) {
	f := strings.SplitN(strings.TrimRight(string(line), "\r\n"), ":", 5)
	if len(f) < 4 || f[0] == "" {
		return account{}, false
	}
	return account{name: f[0], uid: f[2], gid: f[3]}, true
}

// parseGroup reads name:password:gid:members; anything else is no group.
func parseGroup(line []byte) (group, bool) {
	f := strings.SplitN(strings.TrimRight(string(line), "\r\n"), ":", 4)
	if len(f) < 4 || f[0] == "" {
		return group{}, false
	}
	return group{name: f[0], gid: f[2], members: f[3]}, true
}

func (g group) has(user string) bool {
	for member := range strings.SplitSeq(g.members, ",") {
		if strings.TrimSpace(member) == user {
			return true
		}
	}
	return false
}

// isNumber reports whether s has digits only. Such a name is an id, whatever
// /etc/passwd says: a kubelet that was asked for a user other than root trusts
// that "1000" is not root (CVE-2026-46680).
func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseID reads a user or group id in decimal digits.
func parseID(s string) (uint32, error) {
	if !isNumber(s) {
		return 0, fmt.Errorf("id %q is not a number", show(s))
	}
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id > maxID {
		return 0, fmt.Errorf("id %s is out of range (0 to %d)", show(s), maxID)
	}
	return uint32(id), nil
}

// readInRoot reads a file of a root file system, following links inside it
// only. A missing file is empty; one that is too large, or isn't a regular
// file, is an error.
func readInRoot(rootfs, name string, limit int64) ([]byte, error) {
	handle, err := pathrs.OpenInRoot(rootfs, name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("open %s in the image: %w", name, err)
	}
	defer handle.Close()
	// Look before opening for real: a FIFO would block, a device would act.
	info, err := handle.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at %s in the image: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s in the image: not a regular file", name)
	}
	file, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open %s in the image: %w", name, err)
	}
	defer file.Close()
	data, err := readBounded(file, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s in the image: %w", name, err)
	}
	return data, nil
}

// readBounded reads a file of at most limit bytes; a longer one is an error.
func readBounded(file *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data, nil
}
