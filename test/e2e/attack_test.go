package e2e

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestEveryFieldAttacked puts hostile values into each field of each request that makes or
// changes a pod or container. Whether a value is fine for its field is not asked here (the
// tables of bad requests do that): it works, or it is refused with a code that fits and a
// message that names the field; nothing crashes, and nothing is left.
func TestEveryFieldAttacked(t *testing.T) {
	t.Parallel()
	h := New(t, programs, Options{})
	daemon := h.Daemon.PID()
	t.Run("RunPodSandbox", func(t *testing.T) {
		h := h.In(t)
		attack(h, func(n int) proto.Message { return attackedPod(h, n) }, func(ctx context.Context, m proto.Message) error {
			answer, err := h.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: m.(*runtimeapi.PodSandboxConfig)})
			if err == nil {
				h.removePod(answer.PodSandboxId)
			}
			return err
		})
	})
	pod := h.RunPod(h.PodConfig("attacked"))
	t.Run("CreateContainer", func(t *testing.T) {
		h := h.In(t)
		attack(h, func(n int) proto.Message { return attackedContainer(h, n) }, func(ctx context.Context, m proto.Message) error {
			answer, err := h.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
				PodSandboxId: pod.ID, Config: m.(*runtimeapi.ContainerConfig), SandboxConfig: pod.Config,
			})
			if err == nil {
				h.RemoveContainer(answer.ContainerId)
			}
			return err
		})
	})
	id := pod.Run(h.ContainerConfig("updated"))
	t.Run("UpdateContainerResources", func(t *testing.T) {
		h := h.In(t)
		attack(h, func(int) proto.Message {
			return &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: &runtimeapi.LinuxContainerResources{CpuShares: 512}}
		}, func(ctx context.Context, m proto.Message) error {
			_, err := h.Runtime.UpdateContainerResources(ctx, m.(*runtimeapi.UpdateContainerResourcesRequest))
			return err
		})
	})
	t.Run("UpdatePodSandboxResources", func(t *testing.T) {
		h := h.In(t)
		attack(h, func(int) proto.Message {
			return &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: pod.ID, Resources: &runtimeapi.LinuxContainerResources{CpuShares: 512}}
		}, func(ctx context.Context, m proto.Message) error {
			_, err := h.Runtime.UpdatePodSandboxResources(ctx, m.(*runtimeapi.UpdatePodSandboxResourcesRequest))
			return err
		})
	})
	if now := h.Daemon.PID(); now != daemon {
		t.Errorf("the daemon is another one: %d, before %d", now, daemon)
	}
	pod.Stop()
	pod.Remove()
	list, err := h.Runtime.ListPodSandbox(h.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("pods are left: %v, %v", list, err)
	}
	h.Audit()
}

// attackedPod has one sane element in each list, so that a hostile field beside it counts.
func attackedPod(h *Harness, n int) *runtimeapi.PodSandboxConfig {
	config := h.PodConfig(fmt.Sprint("attacked-", n))
	config.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.0.0.1"}}
	config.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80}}
	config.Linux.Overhead = &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}}
	config.Linux.Resources = proto.CloneOf(config.Linux.Overhead)
	return config
}

func attackedContainer(h *Harness, n int) *runtimeapi.ContainerConfig {
	config := h.ContainerConfig(fmt.Sprint("attacked-", n))
	config.Envs = []*runtimeapi.KeyValue{{Key: "A", Value: []byte("b")}}
	config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/mnt", HostPath: h.Share}}
	config.Devices = []*runtimeapi.Device{{ContainerPath: "/dev/again", HostPath: "/dev/null", Permissions: "r"}}
	config.Linux.Resources = &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}}
	config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	return config
}

// attack sends sane requests, each with one hostile field, four at a time.
func attack(h *Harness, sane func(n int) proto.Message, send func(context.Context, proto.Message) error) {
	var work sync.WaitGroup
	slots := make(chan struct{}, 4)
	n := 0
	for _, field := range leaves(sane(0).ProtoReflect().Descriptor(), nil) {
		for _, value := range hostile(field[len(field)-1]) {
			request := sane(n)
			n++
			value.put(mutable(request.ProtoReflect(), field), field[len(field)-1])
			slots <- struct{}{}
			work.Go(func() {
				defer func() { <-slots }()
				judge(h, field, value.name, send(h.Context(), request))
			})
		}
	}
	work.Wait()
	h.t.Logf("%d requests", n)
}

// fits are the codes of a request that is refused for what it says.
var fits = []codes.Code{codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.Unimplemented, codes.OutOfRange, codes.ResourceExhausted}

func judge(h *Harness, field []protoreflect.FieldDescriptor, value string, err error) {
	path := dotted(field)
	switch last := string(field[len(field)-1].Name()); {
	case err == nil:
	case !slices.Contains(fits, status.Code(err)):
		h.t.Errorf("%s, %s: %v", path, value, err)
	case len(err.Error()) > 5000:
		h.t.Errorf("%s, %s: a message of %d bytes", path, value, len(err.Error()))
	case !strings.Contains(err.Error(), last) && !strings.Contains(err.Error(), string(field[0].Name())):
		h.t.Errorf("%s, %s: the message does not name the field: %v", path, value, err)
	}
}

// leaves are the ways to all fields of a message that are not messages themselves.
func leaves(m protoreflect.MessageDescriptor, way []protoreflect.FieldDescriptor) [][]protoreflect.FieldDescriptor {
	var all [][]protoreflect.FieldDescriptor
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		to := append(slices.Clone(way), field)
		if field.Message() == nil || field.IsMap() || field.Message().Name() == "Int64Value" {
			all = append(all, to)
			continue
		}
		all = append(all, leaves(field.Message(), to)...)
	}
	return all
}

func dotted(way []protoreflect.FieldDescriptor) string {
	var names []string
	for _, field := range way {
		names = append(names, string(field.Name()))
	}
	return strings.Join(names, ".")
}

// mutable returns the message that holds the last field of a way; of a list on it, the first
// element.
func mutable(m protoreflect.Message, way []protoreflect.FieldDescriptor) protoreflect.Message {
	for _, field := range way[:len(way)-1] {
		if !field.IsList() {
			m = m.Mutable(field).Message()
			continue
		}
		list := m.Mutable(field).List()
		if list.Len() == 0 {
			list.AppendMutable()
		}
		m = list.Get(0).Message()
	}
	return m
}

// hostileValue is put into a field of a message.
type hostileValue struct {
	name string
	put  func(protoreflect.Message, protoreflect.FieldDescriptor)
}

var (
	hostileTexts = map[string]string{
		"NUL": "a\x00b", "line break": "a\nroot::0:0::/:/bin/sh", "path that leads out": "../../../../../../etc/shadow",
		"root": "/", "long": strings.Repeat("A", 70_000), "negative number": "-1", "space": " ", "command": "$(reboot); `reboot`",
		"process": "/proc/self/fd/3",
	}
	hostileNumbers = []int64{-1, math.MinInt64, math.MaxInt64, math.MaxInt32, math.MinInt32, 1 << 32}
)

// hostile returns values for a field by its kind.
func hostile(field protoreflect.FieldDescriptor) []hostileValue {
	var all []hostileValue
	add := func(name string, value func(protoreflect.Message) protoreflect.Value) {
		all = append(all, hostileValue{name, func(m protoreflect.Message, f protoreflect.FieldDescriptor) { m.Set(f, value(m)) }})
	}
	scalar := func(v any) func(protoreflect.Message) protoreflect.Value {
		return func(protoreflect.Message) protoreflect.Value { return protoreflect.ValueOf(v) }
	}
	switch {
	case field.IsMap():
		for name, text := range hostileTexts {
			all = append(all,
				hostileValue{"key: " + name, func(m protoreflect.Message, f protoreflect.FieldDescriptor) { putPair(m, f, text, "v") }},
				hostileValue{"value: " + name, func(m protoreflect.Message, f protoreflect.FieldDescriptor) { putPair(m, f, "k", text) }})
		}
	case field.IsList():
		for _, value := range hostileElements(field) {
			all = append(all, hostileValue{fmt.Sprint(value), func(m protoreflect.Message, f protoreflect.FieldDescriptor) {
				m.Mutable(f).List().Append(value)
			}})
		}
	case field.Kind() == protoreflect.StringKind:
		for name, text := range hostileTexts {
			add(name, scalar(text))
		}
	case field.Kind() == protoreflect.BytesKind:
		for name, text := range hostileTexts {
			add(name, scalar([]byte(text)))
		}
	case field.Kind() == protoreflect.EnumKind:
		add("99", scalar(protoreflect.EnumNumber(99)))
		add("-1", scalar(protoreflect.EnumNumber(-1)))
		for i := range field.Enum().Values().Len() {
			add(string(field.Enum().Values().Get(i).Name()), scalar(field.Enum().Values().Get(i).Number()))
		}
	case field.Kind() == protoreflect.BoolKind:
		add("true", scalar(true))
	default:
		for _, number := range hostileNumbers {
			if value, ok := numberOf(field, number); ok {
				add(fmt.Sprint(number), func(protoreflect.Message) protoreflect.Value { return value })
			}
		}
	}
	return all
}

func putPair(m protoreflect.Message, field protoreflect.FieldDescriptor, key, value string) {
	m.Mutable(field).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(value))
}

func hostileElements(field protoreflect.FieldDescriptor) []protoreflect.Value {
	var all []protoreflect.Value
	if field.Kind() == protoreflect.StringKind {
		for _, text := range hostileTexts {
			all = append(all, protoreflect.ValueOfString(text))
		}
		return all
	}
	for _, number := range hostileNumbers {
		if value, ok := numberOf(field, number); ok {
			all = append(all, value)
		}
	}
	return all
}

// numberOf returns a number as a field holds it, if it can.
func numberOf(field protoreflect.FieldDescriptor, n int64) (protoreflect.Value, bool) {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage((&runtimeapi.Int64Value{Value: n}).ProtoReflect()), true
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(n)), n == int64(int32(n))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(n)), n == int64(uint32(n))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(n)), true
	}
	return protoreflect.ValueOfInt64(n), true
}
