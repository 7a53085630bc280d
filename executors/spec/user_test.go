package spec

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/executors/spec/refusal"
)

func id(n int64) *cri.Int64Value { return &cri.Int64Value{Value: n} }

func TestUser(t *testing.T) {
	type sec = cri.LinuxContainerSecurityContext
	strict := cri.SupplementalGroupsPolicy_Strict
	for _, tc := range []struct {
		name  string
		image string
		sec   *sec
		want  specs.User
	}{
		{"nothing said", "", &sec{}, specs.User{AdditionalGids: []uint32{0, 10}}},
		{"image name", "app", &sec{}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10, 29}}},
		{"image name and group", "app:staff", &sec{}, specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{2000, 10, 29}}},
		{"image uid", "1000", &sec{}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10, 29}}},
		{"image uid and gid", "1000:7", &sec{}, specs.User{UID: 1000, GID: 7, AdditionalGids: []uint32{7, 10, 29}}},
		{"image uid without account", "4242", &sec{}, specs.User{UID: 4242, AdditionalGids: []uint32{0}}},
		{"image group alone", ":staff", &sec{}, specs.User{GID: 2000, AdditionalGids: []uint32{2000, 10}}},
		{"space in the member list", "other", &sec{}, specs.User{UID: 1001, GID: 2000, AdditionalGids: []uint32{2000, 29}}},
		{"run_as_user replaces the image's group too", "app:staff", &sec{RunAsUser: id(1001)}, specs.User{UID: 1001, GID: 2000, AdditionalGids: []uint32{2000, 29}}},
		{"run_as_username", "0:0", &sec{RunAsUsername: "app"}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10, 29}}},
		{"run_as_group", "", &sec{RunAsUser: id(1000), RunAsGroup: id(5)}, specs.User{UID: 1000, GID: 5, AdditionalGids: []uint32{5, 10, 29}}},
		{"merge", "", &sec{RunAsUser: id(1000), SupplementalGroups: []int64{10, 77}}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10, 29, 77}}},
		{"strict", "", &sec{RunAsUser: id(1000), SupplementalGroups: []int64{77}, SupplementalGroupsPolicy: strict}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 77}}},
		{"a name that is a number is a number", "1000:1000", &sec{}, specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{1000, 10, 29}}},
		{"highest id", "4294967294", &sec{}, specs.User{UID: 4294967294, AdditionalGids: []uint32{0}}},
		{"id above 2^31", "2147483648:2147483649", &sec{}, specs.User{UID: 2147483648, GID: 2147483649, AdditionalGids: []uint32{2147483649}}},
		{"run_as_user and groups above 2^31", "", &sec{RunAsUser: id(1 << 31), RunAsGroup: id(1<<31 + 1), SupplementalGroups: []int64{1<<32 - 2}}, specs.User{UID: 1 << 31, GID: 1<<31 + 1, AdditionalGids: []uint32{1<<31 + 1, 1<<32 - 2}}},
		{"member of a group above 2^31", "member", &sec{}, specs.User{UID: 1003, GID: 1003, AdditionalGids: []uint32{1003, 3000000000}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := fixture()
			in.Image.Config.User = tc.image
			in.Container.Linux.SecurityContext = tc.sec
			tc.sec.NamespaceOptions = &cri.NamespaceOption{}
			got, err := in.container()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Process.User); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// CVE-2024-40635, CVE-2026-46680: an id out of range must neither wrap to 0 nor
// be looked up as a name, and what can't be resolved is refused.
func TestUserRefused(t *testing.T) {
	type sec = cri.LinuxContainerSecurityContext
	for _, tc := range []struct {
		name, image string
		sec         *sec
		field       string
	}{
		{"uid 2^32", "4294967296", &sec{}, fieldImageUser},
		{"uid 2^32-1", "4294967295", &sec{}, fieldImageUser},
		{"uid beyond 64 bits", "99999999999999999999999", &sec{}, fieldImageUser},
		{"gid 2^32", "0:4294967296", &sec{}, "the image's group"},
		{"negative", "-1", &sec{}, fieldImageUser},
		{"signed", "+0", &sec{}, fieldImageUser},
		{"unknown name", "ghost", &sec{}, fieldImageUser},
		{"unknown group", "0:ghost", &sec{}, "the image's group"},
		{"account with uid 2^32", "huge", &sec{}, fieldImageUser},
		{"account with uid -1", "negative", &sec{}, fieldImageUser},
		{"account with a bad group", "badgroup", &sec{}, fieldImageUser},
		{"member of a bad group", "", &sec{RunAsUsername: "badmember"}, fieldRunAsUsername},
		{"group with gid 2^32", "0:hugegroup", &sec{}, "the image's group"},
		{"unicode digits", "１０００", &sec{}, fieldImageUser},
		{"run_as_user negative", "", &sec{RunAsUser: id(-1)}, fieldRunAsUser},
		{"run_as_user 2^32", "", &sec{RunAsUser: id(1 << 32)}, fieldRunAsUser},
		{"run_as_group 2^32", "", &sec{RunAsUser: id(1), RunAsGroup: id(1 << 32)}, fieldRunAsGroup},
		{"run_as_user 2^32-1", "", &sec{RunAsUser: id(1<<32 - 1)}, fieldRunAsUser},
		{"run_as_group 2^32-1", "", &sec{RunAsUser: id(1), RunAsGroup: id(1<<32 - 1)}, fieldRunAsGroup},
		{"supplemental group 2^32-1", "", &sec{SupplementalGroups: []int64{1<<32 - 1}}, fieldSupplemental},
		{"run_as_group alone", "", &sec{RunAsGroup: id(1)}, fieldRunAsGroup},
		{"supplemental group 2^32", "", &sec{SupplementalGroups: []int64{1 << 32}}, fieldSupplemental},
		{"user twice", "", &sec{RunAsUser: id(1), RunAsUsername: "app"}, fieldRunAsUsername},
		{"run_as_username unknown", "", &sec{RunAsUsername: "ghost"}, fieldRunAsUsername},
		{"run_as_username number", "", &sec{RunAsUsername: "1000"}, fieldRunAsUsername},
		{"run_as_username with group", "", &sec{RunAsUsername: "app:root"}, fieldRunAsUsername},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := fixture()
			in.Image.Config.User = tc.image
			in.Container.Linux.SecurityContext = tc.sec
			got, err := in.container()
			fe, ok := errors.AsType[*refusal.FieldError](err)
			if !ok {
				t.Fatalf("got %+v, error %v; want a FieldError", got, err)
			}
			if fe.Field != tc.field {
				t.Errorf("field %q, want %q (%v)", fe.Field, tc.field, err)
			}
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("kind %v", fault.KindOf(err))
			}
		})
	}
}

func TestImageWithoutAccounts(t *testing.T) {
	in := fixture()
	in.node.Passwd, in.node.Group = File{}, File{}
	got, err := in.container()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(specs.User{AdditionalGids: []uint32{0}}, got.Process.User); diff != "" {
		t.Error(diff)
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte(testPasswd), []byte(testGroup), "app", "staff")
	f.Add([]byte("a:::\r\n"), []byte(":::"), "", "1")
	f.Add([]byte("app:x:00:0"), []byte("g:x:1:app,,app"), "0", "g")
	f.Fuzz(func(t *testing.T, passwd, groups []byte, user, groupName string) {
		a := accounts{passwd: File{Data: passwd}, group: File{Data: groups}}
		who, err := a.resolveUser("user", user)
		if err == nil {
			if who.uid > maxID || who.gid > maxID {
				t.Fatalf("user %q resolved to %+v", user, who)
			}
			if !isNumber(user) && who.name != user {
				t.Fatalf("user %q resolved to the account %q", user, who.name)
			}
			if _, err := a.groupsOf(who.name); err == nil && who.uid == 0 && !isNumber(user) {
				// Only an account that says so is root.
				entry, _, _ := a.userByName(user)
				if strings.Trim(entry.uid, "0") != "" {
					t.Fatalf("user %q with uid %q became root", user, entry.uid)
				}
			}
		}
		if gid, err := a.resolveGroup(groupName); err == nil && gid > maxID {
			t.Fatalf("group %q resolved to %d", groupName, gid)
		}
	})
}
