package spec

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const (
	fieldRunAsUser     = "linux.security_context.run_as_user"
	fieldRunAsUsername = "linux.security_context.run_as_username"
	fieldRunAsGroup    = "linux.security_context.run_as_group"
	fieldSupplemental  = "linux.security_context.supplemental_groups"
	fieldImageUser     = "the image's user"
)

// planUser decides who the container's process is. The pod's run_as_user or
// run_as_username replaces the image's user and group; run_as_group replaces the
// group alone. Without either, the image's user counts, and without one root.
func planUser(r *request, plan *Plan) error {
	names := accounts{passwd: r.found.Passwd, group: r.found.Group}
	field, user, groupName := r.wantedUser()
	id, err := names.resolveUser(field, user)
	if err != nil {
		return err
	}
	gid := id.gid
	if groupName != "" {
		if gid, err = names.resolveGroup(groupName); err != nil {
			return err
		}
	}
	if r.sec.RunAsGroup != nil {
		gid = uint32(r.sec.RunAsGroup.Value)
	}
	// The primary group is among the supplementary ones: a process that changes
	// its group must not lose what that group is denied (CVE-2022-2995,
	// CVE-2023-25173).
	groups := []uint32{gid}
	if r.sec.SupplementalGroupsPolicy == cri.SupplementalGroupsPolicy_Merge && id.name != "" {
		more, err := names.groupsOf(id.name)
		if err != nil {
			return refusal.Invalid(fieldImageUser, user, "can't be given its groups: %v", err)
		}
		groups = append(groups, more...)
	}
	for _, g := range r.sec.SupplementalGroups {
		groups = append(groups, uint32(g))
	}
	if groups = unique(groups); len(groups) > maxGroups {
		return refusal.Invalid(field, user, "is in %d groups, more than the kernel's limit of %d", len(groups), maxGroups)
	}
	if err := r.checkMapped(field, id.uid, groups); err != nil {
		return err
	}
	plan.Spec.Process.User = specs.User{UID: id.uid, GID: gid, AdditionalGids: groups}
	return nil
}

// checkMapped refuses who does not exist in the pod's user namespace.
func (r *request) checkMapped(field string, uid uint32, gids []uint32) error {
	if _, mapped := r.users.UID(uid); !mapped {
		return refusal.Invalid(field, uid, "is not mapped in the pod's user namespace")
	}
	for _, gid := range gids {
		if _, mapped := r.users.GID(gid); !mapped {
			return refusal.Invalid(field, uid, "is in the group %d, which is not mapped in the pod's user namespace", gid)
		}
	}
	return nil
}

// wantedUser returns the user's name or number, the group that the image gives
// it, if any, and the field that they are from.
func (r *request) wantedUser() (field, user, groupName string) {
	switch {
	case r.sec.RunAsUser != nil:
		return fieldRunAsUser, refusal.Show(r.sec.RunAsUser.Value), ""
	case r.sec.RunAsUsername != "":
		return fieldRunAsUsername, r.sec.RunAsUsername, ""
	case r.image.User != "":
		user, groupName, _ = strings.Cut(r.image.User, ":")
		if user == "" {
			user = "0"
		}
		return fieldImageUser, user, groupName
	default:
		return fieldImageUser, "0", ""
	}
}

// identity is a user that was looked up. Its name is empty, and its group 0, if
// the image has no account for a number.
type identity struct {
	name     string
	uid, gid uint32
}

func (a accounts) resolveUser(field, user string) (identity, error) {
	if isNumber(user) {
		uid, err := parseID(user)
		if err != nil {
			return identity{}, refusal.Invalid(field, user, "%v", err)
		}
		entry, found, err := a.userByID(uid)
		if err != nil {
			return identity{}, refusal.Invalid(field, user, "can't be looked up: %v", err)
		}
		if !found {
			return identity{uid: uid}, nil
		}
		gid, err := parseID(entry.gid)
		if err != nil {
			return identity{}, refusal.Invalid(field, user, "has an unusable group in /etc/passwd: %v", err)
		}
		return identity{name: entry.name, uid: uid, gid: gid}, nil
	}
	if err := checkAccountName(field, user); err != nil {
		return identity{}, err
	}
	entry, found, err := a.userByName(user)
	if err != nil {
		return identity{}, refusal.Invalid(field, user, "can't be looked up: %v", err)
	}
	if !found {
		return identity{}, refusal.Invalid(field, user, "is not in the image's /etc/passwd")
	}
	uid, err := parseID(entry.uid)
	if err != nil {
		return identity{}, refusal.Invalid(field, user, "is unusable in /etc/passwd: %v", err)
	}
	gid, err := parseID(entry.gid)
	if err != nil {
		return identity{}, refusal.Invalid(field, user, "has an unusable group in /etc/passwd: %v", err)
	}
	return identity{name: entry.name, uid: uid, gid: gid}, nil
}

func (a accounts) resolveGroup(name string) (uint32, error) {
	if isNumber(name) {
		gid, err := parseID(name)
		if err != nil {
			return 0, refusal.Invalid("the image's group", name, "%v", err)
		}
		return gid, nil
	}
	if err := checkAccountName("the image's group", name); err != nil {
		return 0, err
	}
	entry, found, err := a.groupByName(name)
	if err != nil {
		return 0, refusal.Invalid("the image's group", name, "can't be looked up: %v", err)
	}
	if !found {
		return 0, refusal.Invalid("the image's group", name, "is not in the image's /etc/group")
	}
	gid, err := parseID(entry.gid)
	if err != nil {
		return 0, refusal.Invalid("the image's group", name, "is unusable in /etc/group: %v", err)
	}
	return gid, nil
}

// checkAccountName refuses names that some parser takes for a number, and names
// that can't be in an account file.
func checkAccountName(field, name string) error {
	if strings.HasPrefix(name, "+") || strings.HasPrefix(name, "-") {
		return refusal.Invalid(field, name, "begins with a sign, and is neither an id nor a name")
	}
	if strings.ContainsAny(name, ":\n\r\x00") {
		return refusal.Invalid(field, name, "has a character that no account's name has")
	}
	return nil
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

func unique(ids []uint32) []uint32 {
	seen := make(map[uint32]bool, len(ids))
	return slices.DeleteFunc(ids, func(id uint32) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}
