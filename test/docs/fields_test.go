package docs

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/spec"
)

// request is a message of the table: a valid one, and what refuses an invalid one early.
type request struct {
	valid    proto.Message
	validate func(proto.Message) error
}

func requests() []request {
	pod := &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Name: "n", Namespace: "ns", Uid: "u"}}
	container := &cri.ContainerConfig{Metadata: &cri.ContainerMetadata{Name: "c"}, Image: &cri.ImageSpec{Image: "i"}}
	container.Mounts = []*cri.Mount{{ContainerPath: "/p", HostPath: "/h"}}
	return []request{
		{pod, func(m proto.Message) error { return spec.ValidateSandbox(m.(*cri.PodSandboxConfig)) }},
		{container, func(m proto.Message) error { return spec.ValidateContainer(m.(*cri.ContainerConfig), pod) }},
		{&cri.UpdateContainerResourcesRequest{ContainerId: "c", Linux: &cri.LinuxContainerResources{CpuShares: 2}}, func(m proto.Message) error {
			return spec.ValidateUpdate(container, m.(*cri.UpdateContainerResourcesRequest))
		}},
		{&cri.UpdatePodSandboxResourcesRequest{PodSandboxId: "s"}, func(m proto.Message) error {
			return spec.ValidateSandboxUpdate(m.(*cri.UpdatePodSandboxResourcesRequest))
		}},
		{&cri.UpdateRuntimeConfigRequest{}, func(proto.Message) error { return nil }},
	}
}

// TestEveryFieldHasItsRow walks the messages by reflection. No field may be ignored in silence.
func TestEveryFieldHasItsRow(t *testing.T) {
	rows := tables(t, "fields.md")
	tests := findTests(t)
	for _, r := range requests() {
		message := r.valid.ProtoReflect().Descriptor()
		name := string(message.Name())
		var fields []string
		walkFields(message, "", func(field string) { fields = append(fields, field) })
		described := map[string]int{}
		for _, row := range rows[name] {
			for _, pattern := range row.names(t) {
				matches := slices.DeleteFunc(slices.Clone(fields), func(field string) bool { return !covers(pattern, field) })
				if len(matches) == 0 {
					t.Errorf("%s: the message has no field %s", name, pattern)
				}
				for _, field := range matches {
					described[field]++
				}
				where := name + "." + pattern
				if want, refused := verdictOf(t, where, row, tests); refused {
					checkRefused(t, r, pattern, want)
				}
			}
		}
		for _, field := range fields {
			if described[field] != 1 {
				t.Errorf("%s.%s has %d rows in docs/fields.md, want one", name, field, described[field])
			}
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/fields.md has a table of %s, which is no message of this test", name)
	}
}

// verdictOf checks what a row says, and returns the words by which its field is refused.
func verdictOf(t *testing.T, where string, row row, tests tests) (words string, refused bool) {
	t.Helper()
	verdict, rest, _ := strings.Cut(row.cells[1], ":")
	verdict, _, _ = strings.Cut(verdict, ",")
	rest = strings.TrimSpace(rest)
	proved := tests.check(t, where, row.cells[2])
	switch {
	case verdict == "done" && !proved:
		t.Errorf("%s is done, but its row names no test", where)
	case verdict == "refused" && rest == "", verdict == "no effect" && rest == "":
		t.Errorf("%s: the row does not say how or why", where)
	case verdict != "done" && verdict != "refused" && verdict != "no effect":
		t.Errorf("%s is neither done, refused nor without effect: %q", where, row.cells[1])
	}
	return rest, verdict == "refused"
}

func checkRefused(t *testing.T, r request, field, want string) {
	t.Helper()
	changed := proto.Clone(r.valid)
	set(changed.ProtoReflect(), strings.TrimSuffix(field, ".*"))
	if err := r.validate(changed); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s is refused with %v; its row says %q", field, err, want)
	}
}

// covers reports whether a row's name stands for a field. Only "x.*" stands for more than one.
func covers(pattern, field string) bool {
	if message, all := strings.CutSuffix(pattern, ".*"); all {
		return strings.HasPrefix(field, message+".")
	}
	return pattern == field
}

// walkFields calls visit with the dotted names of all fields that are not messages.
func walkFields(m protoreflect.MessageDescriptor, above string, visit func(string)) {
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		name := above + string(field.Name())
		if field.Message() == nil || field.IsMap() || field.Message().Name() == "Int64Value" {
			visit(name)
			continue
		}
		walkFields(field.Message(), name+".", visit)
	}
}

// set gives a field some value that is not its zero, and makes the messages around it.
func set(m protoreflect.Message, name string) {
	first, rest, deeper := strings.Cut(name, ".")
	field := m.Descriptor().Fields().ByName(protoreflect.Name(first))
	switch {
	case field.IsList() && field.Message() != nil:
		list := m.Mutable(field).List()
		if list.Len() == 0 {
			list.AppendMutable()
		}
		if deeper {
			set(list.Get(0).Message(), rest)
		}
	case field.IsList():
		m.Mutable(field).List().Append(sample(field))
	case field.IsMap():
		m.Mutable(field).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("v"))
	case field.Message() != nil:
		if inner := m.Mutable(field).Message(); deeper {
			set(inner, rest)
		}
	default:
		m.Set(field, sample(field))
	}
}

func sample(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("value")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("value"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1)
	}
	return protoreflect.ValueOfInt64(1)
}
