package usermode

import (
	"slices"
	"strconv"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

// Keys returns the keys of the annotation: CRI-O's present one, which counts if a pod has both,
// and the one before.
func Keys() []string {
	return []string{"userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode"}
}

// DefaultSize is how many ids a pod gets that does not say.
const DefaultSize = 65536

// maxValue bounds the annotation's value, in bytes. The kernel's 340 mappings fit.
const maxValue = 16 << 10

// Find returns a pod's annotation, if it is among the allowed ones. Keys match exactly
// (CVE-2023-6476).
func Find(annotations map[string]string, allowed []string) (key, value string, found bool) {
	for _, key := range Keys() {
		if value, has := annotations[key]; has && slices.Contains(allowed, key) {
			return key, value, true
		}
	}
	return "", "", false
}

// Mode is what an annotation asks for.
type Mode struct {
	// key is the annotation's, for errors.
	key string
	// Auto has the ids that are not in UIDs and GIDs chosen from those that nobody has.
	Auto bool
	// Size is how many ids the pod sees from 0 on. It is not used without Auto.
	Size uint32
	// UIDs and GIDs are mappings that the pod names.
	UIDs, GIDs []*cri.IDMapping
	// KeepID maps the pod's user and groups to themselves, MapToRoot maps its user to root.
	KeepID, MapToRoot bool
}

// Parse reads the annotation of that key: a mode, auto or private, and options after a colon,
// as in auto:size=65536;keep-id=true or private:uidmapping=0:200000:65536. An option that is
// unknown, or that the mode does not have, is refused: CRI-O ignores it.
func Parse(key, value string) (Mode, error) {
	m := Mode{key: key, Size: DefaultSize}
	if len(value) > maxValue {
		return m, m.refuse(value, "is longer than %d bytes", maxValue)
	}
	mode, options, has := strings.Cut(value, ":")
	switch mode {
	case "auto":
		m.Auto = true
	case "private":
	default:
		return m, m.refuse(value, "is neither auto nor private")
	}
	if !has {
		return m, nil
	}
	seen := map[string]bool{}
	for option := range strings.SplitSeq(options, ";") {
		name, setting, ok := strings.Cut(option, "=")
		if !ok {
			return m, m.refuse(value, "has the option %.100q, which is not NAME=VALUE", option)
		}
		if seen[name] {
			return m, m.refuse(value, "has the option %.100q twice", name)
		}
		seen[name] = true
		if err := m.set(name, setting); err != nil {
			return m, err
		}
	}
	if m.KeepID && m.MapToRoot {
		return m, m.refuse(value, "has both keep-id and map-to-root")
	}
	return m, nil
}

func (m *Mode) set(name, setting string) (err error) {
	switch {
	case name == "uidmapping":
		m.UIDs, err = m.mappings(name, setting)
	case name == "gidmapping":
		m.GIDs, err = m.mappings(name, setting)
	case name == "size" && m.Auto:
		size, parseErr := strconv.ParseUint(setting, 10, 32)
		if parseErr != nil || size == 0 {
			return m.refuse(setting, "is not a size")
		}
		m.Size = uint32(size)
	case name == "keep-id" && m.Auto:
		m.KeepID, err = m.isTrue(name, setting)
	case name == "map-to-root" && m.Auto:
		m.MapToRoot, err = m.isTrue(name, setting)
	default:
		return m.refuse(name, "is not an option that the mode has")
	}
	return err
}

func (m *Mode) isTrue(name, setting string) (bool, error) {
	if setting != "true" && setting != "false" {
		return false, m.refuse(setting, "is neither true nor false: %s", name)
	}
	return setting == "true", nil
}

// mappings reads CONTAINER:HOST:LENGTH,… Whether they can be had is checked with the rest.
func (m *Mode) mappings(name, setting string) ([]*cri.IDMapping, error) {
	var out []*cri.IDMapping
	for text := range strings.SplitSeq(setting, ",") {
		parts := strings.Split(text, ":")
		if len(parts) != 3 {
			return nil, m.refuse(text, "is not CONTAINER:HOST:LENGTH: %s", name)
		}
		var numbers [3]uint32
		for i, part := range parts {
			n, err := strconv.ParseUint(part, 10, 32)
			if err != nil {
				return nil, m.refuse(text, "has a number that is not an id: %s", name)
			}
			numbers[i] = uint32(n)
		}
		out = append(out, &cri.IDMapping{ContainerId: numbers[0], HostId: numbers[1], Length: numbers[2]})
	}
	return out, nil
}

func (m *Mode) refuse(value any, reason string, args ...any) error {
	return refusal.Invalid("annotations["+m.key+"]", value, reason, args...)
}
