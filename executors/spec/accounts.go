package spec

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// maxHome bounds a home directory in a line of /etc/passwd, in bytes: PATH_MAX.
const maxHome = 4096

// planAccounts has the user and the group of the container's process added to the image's
// account files if they lack them, as CRI-O does: many programs fail for a user without a
// line. An image without such a file gets none. A file that others than root may write is
// left alone: the image's program adds its own line.
func planAccounts(r *request, plan *Plan) error {
	names := accounts{passwd: r.found.Passwd, group: r.found.Group}
	user := plan.Spec.Process.User
	name := strconv.FormatUint(uint64(user.UID), 10)
	if grows(names.passwd) && !names.hasUser(user.UID, name) {
		line := fmt.Sprintf("%s:x:%d:%d:%s user:%s:/sbin/nologin", name, user.UID, user.GID, name, r.home(plan))
		plan.Steps = append(plan.Steps, AppendLine{Rootfs: r.Rootfs, Path: "/etc/passwd", Line: line})
	}
	name = strconv.FormatUint(uint64(user.GID), 10)
	if grows(names.group) && !names.hasGroup(user.GID, name) {
		line := fmt.Sprintf("%s:x:%d:", name, user.GID)
		plan.Steps = append(plan.Steps, AppendLine{Rootfs: r.Rootfs, Path: "/etc/group", Line: line})
	}
	return nil
}

// grows reports whether lines are added to a file.
func grows(f File) bool { return f.Err == nil && len(f.Data) > 0 && !f.Open }

// hasUser reports whether there is an account of that id or of that name.
func (a accounts) hasUser(uid uint32, name string) bool {
	_, found, _ := a.user(func(u account) bool {
		id, err := parseID(u.uid)
		return u.name == name || err == nil && id == uid
	})
	return found
}

// hasGroup reports whether there is a group of that id or of that name.
func (a accounts) hasGroup(gid uint32, name string) bool {
	for line := range bytes.Lines(a.group.Data) {
		g, ok := parseGroup(line)
		if !ok {
			continue
		}
		if id, err := parseID(g.gid); g.name == name || err == nil && id == gid {
			return true
		}
	}
	return false
}

// home is the process's HOME, else its working directory. What would add a field or a line
// is not taken (CVE-2022-4318).
func (r *request) home(plan *Plan) string {
	_, home := r.workingDir()
	for _, kv := range plan.Spec.Process.Env {
		if value, ok := strings.CutPrefix(kv, "HOME="); ok && value != "" {
			home = value
		}
	}
	if len(home) > maxHome || strings.ContainsFunc(home, func(c rune) bool { return c < ' ' || c == ':' || c == 0x7f }) {
		return "/"
	}
	return home
}
