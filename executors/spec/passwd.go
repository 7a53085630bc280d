package spec

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// maxID is the kernel's highest user or group id: the one above it, (uid_t) -1, means
// "no change" to system calls. Ids are never converted to a smaller or signed type, in
// which they could turn into 0 (CVE-2024-40635).
const maxID = 1<<32 - 2

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

// accounts are the users and groups of an image. A file that could not be read is
// an error only to those that need it.
type accounts struct{ passwd, group File }

// userByName finds the first account with that name.
func (a accounts) userByName(name string) (account, bool, error) {
	return a.user(func(u account) bool { return u.name == name })
}

// userByID finds the first account with that id.
func (a accounts) userByID(uid uint32) (account, bool, error) {
	return a.user(func(u account) bool {
		id, err := parseID(u.uid)
		return err == nil && id == uid
	})
}

func (a accounts) user(match func(account) bool) (account, bool, error) {
	if a.passwd.Err != nil {
		return account{}, false, a.passwd.Err
	}
	for line := range bytes.Lines(a.passwd.Data) {
		if u, ok := parseAccount(line); ok && match(u) {
			return u, true, nil
		}
	}
	return account{}, false, nil
}

// groupByName finds the first group with that name.
func (a accounts) groupByName(name string) (group, bool, error) {
	if a.group.Err != nil {
		return group{}, false, a.group.Err
	}
	for line := range bytes.Lines(a.group.Data) {
		if g, ok := parseGroup(line); ok && g.name == name {
			return g, true, nil
		}
	}
	return group{}, false, nil
}

// groupsOf lists the ids of the groups that name the user as a member, in the
// order of the file. An id that is out of range is an error: to leave it out
// could give access that the group's members are denied.
func (a accounts) groupsOf(user string) ([]uint32, error) {
	if a.group.Err != nil {
		return nil, a.group.Err
	}
	var ids []uint32
	for line := range bytes.Lines(a.group.Data) {
		g, ok := parseGroup(line)
		if !ok || !g.has(user) {
			continue
		}
		id, err := parseID(g.gid)
		if err != nil {
			return nil, fmt.Errorf("group %q of user %q in /etc/group: %w", refusal.Show(g.name), refusal.Show(user), err)
		}
		ids = append(ids, id)
	}
	return ids, nil
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
		return 0, fmt.Errorf("id %q is not a number", refusal.Show(s))
	}
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id > maxID {
		return 0, fmt.Errorf("id %s is out of range (0 to %d)", refusal.Show(s), maxID)
	}
	return uint32(id), nil
}
