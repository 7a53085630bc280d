package usermode

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/fault"
)

const v1 = "io.kubernetes.cri-o.userns-mode"

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		allowed     []string
		want        string
	}{
		"allowed":              {map[string]string{v1: "auto"}, []string{v1}, "auto"},
		"present key":          {map[string]string{Keys()[0]: "auto"}, Keys(), "auto"},
		"both":                 {map[string]string{v1: "private", Keys()[0]: "auto"}, Keys(), "auto"},
		"only one allowed":     {map[string]string{v1: "private", Keys()[0]: "auto"}, []string{v1}, "private"},
		"not allowed":          {map[string]string{v1: "auto"}, nil, ""},
		"CVE-2023-6476 prefix": {map[string]string{v1 + "x": "auto", "x" + v1: "auto"}, Keys(), ""},
		"CVE-2023-6476 rule":   {map[string]string{v1: "auto"}, []string{"io.kubernetes.cri-o", v1 + "/"}, ""},
	} {
		if _, value, found := Find(c.annotations, c.allowed); value != c.want || found != (c.want != "") {
			t.Errorf("%s: %q, %t", name, value, found)
		}
	}
}

// fill returns the namespace as CONTAINER:HOST:LENGTH,… of the users and of the groups.
func fill(value string, pod *cri.LinuxSandboxSecurityContext, rules Rules, pool Pool) (uids, gids string, err error) {
	mode, err := Parse(v1, value)
	if err != nil {
		return "", "", err
	}
	users, err := mode.Fill(pod, rules, pool)
	if err != nil {
		return "", "", err
	}
	return texts(users.Uids), texts(users.Gids), nil
}

func texts(list []*cri.IDMapping) string {
	var all []string
	for _, r := range list {
		all = append(all, text(r))
	}
	return strings.Join(all, ",")
}

func as(user, group int64, groups ...int64) *cri.LinuxSandboxSecurityContext {
	return &cri.LinuxSandboxSecurityContext{RunAsUser: &cri.Int64Value{Value: user}, RunAsGroup: &cri.Int64Value{Value: group}, SupplementalGroups: groups}
}

func pool() Pool {
	all := []Range{{Start: 200000, Length: 1000000}}
	return Pool{UIDs: all, GIDs: all}
}

func TestFill(t *testing.T) {
	rules := Rules{MinUID: -1, MinGID: -1}
	for _, c := range []struct {
		name, value string
		pod         *cri.LinuxSandboxSecurityContext
		rules       Rules
		pool        Pool
		uids, gids  string
	}{
		{"plain", "auto", nil, rules, pool(), "0:200000:65536", "0:200000:65536"},
		{"size", "auto:size=10", nil, rules, pool(), "0:200000:10", "0:200000:10"},
		{"root is the pod's own", "auto:keep-id=true", as(0, 0, 0), rules, pool(), "0:200000:65536", "0:200000:65536"},
		{"user of the node", "auto", as(1000, 1001), rules, pool(), "1:200000:65535,0:1000:1", "1:200000:65535,0:1001:1"},
		{"groups of the node", "auto", as(1000, 1001, 7, 1001, 8), rules, pool(), "1:200000:65535,0:1000:1", "3:200000:65533,0:1001:1,1:7:1,2:8:1"},
		{"keep-id", "auto:keep-id=true;size=2000", as(1000, 1001, 7), rules, pool(),
			"0:200000:1000,1001:201000:999,1000:1000:1", "0:200000:7,8:200007:993,1002:201000:998,1001:1001:1,7:7:1"},
		{"keep-id beyond the size", "auto:keep-id=true;size=10", as(1000, 1000), rules, pool(), "0:200000:10,1000:1000:1", "0:200000:10,1000:1000:1"},
		{"map-to-root", "auto:map-to-root=true;keep-id=false", as(1000, 1001, 7), rules, pool(), "1:200000:65535,0:1000:1", "2:200000:65534,0:1001:1,1:7:1"},
		{"named", "auto:uidmapping=0:5000:10;gidmapping=5:6000:1", as(0, 0), rules, pool(), "10:200000:65526,0:5000:10", "0:200000:5,6:200005:65530,5:6000:1"},
		{"named, and from the minimum on", "auto:uidmapping=0:5000:10", as(5003, 5000), Rules{MinUID: 5000, MinGID: 5000}, pool(),
			"10:200000:65526,0:5000:10", "1:200000:65535,0:5000:1"},
		{"private", "private:uidmapping=0:5000:10;gidmapping=0:6000:10", as(0, 0), rules, Pool{}, "0:5000:10", "0:6000:10"},
		{"private, one for both", "private:uidmapping=0:5000:10", as(0, 0), rules, Pool{}, "0:5000:10", "0:5000:10"},
		{"private, one for both the other way", "private:gidmapping=0:5000:10", as(0, 0, 77), rules, Pool{}, "0:5000:10", "0:5000:10,10:77:1"},
		{"beside others", "auto:size=10", nil, rules, Pool{
			UIDs: pool().UIDs, GIDs: pool().GIDs,
			UsedUIDs: []Range{{200000, 5}, {200010, 20}}, UsedGIDs: []Range{{200010, 20}},
		}, "0:200030:10", "0:200000:10"},
		{"in pieces", "auto:size=10", nil, rules, Pool{
			UIDs: []Range{{100, 5}, {200, 3}, {300, 4}}, GIDs: []Range{{0, 6}, {100, 5}},
		}, "0:100:5,5:200:3,8:300:2", "0:1:5,5:100:5"},
		{"listed twice", "auto:size=8", nil, rules, Pool{UIDs: []Range{{100, 5}, {102, 6}}, GIDs: []Range{{100, 8}, {100, 8}}}, "0:100:5,5:105:3", "0:100:8"},
	} {
		uids, gids, err := fill(c.value, c.pod, c.rules, c.pool)
		if err != nil || uids != c.uids || gids != c.gids {
			t.Errorf("%s: %s and %s, %v\nwant %s and %s", c.name, uids, gids, err, c.uids, c.gids)
		}
	}
}

func TestRefused(t *testing.T) {
	rules := Rules{MinUID: -1, MinGID: -1}
	least := Rules{MinUID: 5000, MinGID: 6000}
	for _, c := range []struct {
		value string
		pod   *cri.LinuxSandboxSecurityContext
		rules Rules
		want  string
	}{
		{"", nil, rules, `is neither auto nor private`},
		{"host", nil, rules, `"host" is neither auto nor private`},
		{"auto:", nil, rules, `"auto:" has the option "", which is not NAME=VALUE`},
		{"auto:size", nil, rules, `has the option "size", which is not NAME=VALUE`},
		{"auto:size=1;size=2", nil, rules, `has the option "size" twice`},
		{"auto:size=0", nil, rules, `"0" is not a size`},
		{"auto:size=-1", nil, rules, `"-1" is not a size`},
		{"auto:size=4294967296", nil, rules, `"4294967296" is not a size`},
		{"auto:size=4294967295", nil, rules, `"4294967295" is more uids than the node has left for pods`},
		{"auto:Size=1", nil, rules, `"Size" is not an option that the mode has`},
		{"private:size=1", nil, rules, `"size" is not an option that the mode has`},
		{"private:keep-id=true", nil, rules, `"keep-id" is not an option that the mode has`},
		{"auto:keep-id=yes", nil, rules, `"yes" is neither true nor false: keep-id`},
		{"auto:keep-id=true;map-to-root=true", nil, rules, `has both keep-id and map-to-root`},
		{"private", nil, rules, `"private" names no mapping`},
		{"private:uidmapping=", as(0, 0), rules, `is not CONTAINER:HOST:LENGTH: uidmapping`},
		{"private:uidmapping=0:1", as(0, 0), rules, `"0:1" is not CONTAINER:HOST:LENGTH: uidmapping`},
		{"private:gidmapping=0:1:x", as(0, 0), rules, `"0:1:x" has a number that is not an id: gidmapping`},
		{"private:uidmapping=0:4294967296:1", as(0, 0), rules, `has a number that is not an id: uidmapping`},
		{"private:uidmapping=0:1000:0", as(0, 0), rules, `"0:1000:0" uidmapping: is empty, or reaches beyond the last id`},
		{"private:uidmapping=0:4294967290:10", as(0, 0), rules, `"0:4294967290:10" uidmapping: is empty, or reaches beyond the last id`},
		{"private:uidmapping=4294967290:1:10", as(0, 0), rules, `"4294967290:1:10" uidmapping: is empty, or reaches beyond the last id`},
		{"private:uidmapping=0:0:1", as(0, 0), rules, `"0:0:1" uidmapping: maps the node's root`},
		{"auto:gidmapping=5:0:1", as(0, 0), rules, `"5:0:1" gidmapping: maps the node's root`},
		{"auto:uidmapping=0:5000:1", nil, rules, `need a pod that says as whom it runs`},
		{"auto:uidmapping=0:5000:1", as(5000, 0), rules, `need a pod that runs as root, or minimum_mappable_uid`},
		{"auto:uidmapping=0:5000:1", as(4999, 0), least, `below minimum_mappable_uid 5000`},
		{"auto:uidmapping=0:4999:10", as(0, 0), least, `"0:4999:10" uidmapping: begins below minimum_mappable_uid 5000`},
		{"auto:gidmapping=0:5999:10", as(0, 0), least, `"0:5999:10" gidmapping: begins below minimum_mappable_gid 6000`},
		{"auto", as(1000, 0), least, `"0:1000:1" uidmapping: begins below minimum_mappable_uid 5000`},
		{"auto:size=1000001", nil, rules, `"1000001" is more uids than the node has left for pods`},
		{"auto:" + strings.Repeat("x", maxValue), nil, rules, `is longer than 16384 bytes`},
	} {
		uids, gids, err := fill(c.value, c.pod, c.rules, pool())
		var f *fault.Fault
		if err == nil || !errors.As(err, &f) || f.Kind != fault.Invalid || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), v1) {
			t.Errorf("%.40s: %s and %s, %v\nwant %s", c.value, uids, gids, err, c.want)
		}
	}
}

// Whatever a pod asks for and others have, what it gets is nobody else's, never root's, and each
// id inside is one on the node.
func TestFillAlone(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 14))
		ranges := func() (all []Range) {
			for range r.IntN(6) {
				all = append(all, Range{Start: uint32(r.IntN(300)), Length: uint32(r.IntN(60))})
			}
			return all
		}
		p := Pool{UIDs: ranges(), UsedUIDs: ranges(), GIDs: []Range{{1000, 100}}}
		mode := Mode{key: v1, Auto: true, Size: 1 + uint32(r.IntN(80)), KeepID: r.IntN(2) == 0}
		pod := as(int64(r.IntN(200)), 0)
		users, err := mode.Fill(pod, Rules{MinUID: -1, MinGID: -1}, p)
		if err != nil {
			continue
		}
		var inside, outside []span
		for _, m := range users.Uids {
			outside = append(outside, spanOf(m.HostId, m.Length))
			inside = append(inside, spanOf(m.ContainerId, m.Length))
			own := m.Length == 1 && int64(m.HostId) == pod.RunAsUser.Value
			for id := spanOf(m.HostId, m.Length).start; id < spanOf(m.HostId, m.Length).end && !own; id++ {
				if !has(p.UIDs, id) || has(p.UsedUIDs, id) {
					t.Fatalf("seed %d: %d is not to be had: %s from %v without %v", seed, id, texts(users.Uids), p.UIDs, p.UsedUIDs)
				}
			}
		}
		if overlap(inside) || overlap(outside) || has(RangesOf(users.Uids), 0) || total(inside) != total(outside) {
			t.Fatalf("seed %d: %s", seed, texts(users.Uids))
		}
		missing := []span{{0, uint64(mode.Size)}}
		for _, s := range inside {
			missing = without(missing, s)
		}
		if len(missing) > 0 {
			t.Fatalf("seed %d: %v are not mapped: %s", seed, missing, texts(users.Uids))
		}
	}
}

func has(list []Range, id uint64) bool {
	for _, r := range list {
		if s := spanOf(r.Start, r.Length); s.start <= id && id < s.end {
			return true
		}
	}
	return false
}

func overlap(list []span) bool {
	for i, a := range list {
		for _, b := range list[:i] {
			if a.start < b.end && b.start < a.end {
				return true
			}
		}
	}
	return false
}

func TestInside(t *testing.T) {
	list := []*cri.IDMapping{{ContainerId: 1, HostId: 200000, Length: 10}, {HostId: 1000, Length: 1}}
	for id, want := range map[int64]int64{1000: 0, 200003: 4, 200010: 200010, 5: 5, 0: 0, -1: -1} {
		if got := Inside(list, id); got != want {
			t.Errorf("%d is %d inside, want %d", id, got, want)
		}
	}
}
