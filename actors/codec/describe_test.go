package codec

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

func TestDescribe(t *testing.T) {
	when := time.Date(2026, 11, 21, 5, 0, 0, 5, time.UTC)
	for _, test := range []struct {
		event sandbox.Event
		name  string
		want  []Field
	}{
		{sandbox.SandboxReady{}, "SandboxReady", nil},
		{sandbox.NetworkAttached{IPs: []string{"10.1.0.2", "fd00::2"}, Result: []byte("{}")}, "NetworkAttached",
			[]Field{{"ips", `["10.1.0.2" "fd00::2"]`}, {"result", "2 bytes"}}},
		{sandbox.NetworkDetachFailed{Fault: fault.Fault{Op: "detach network", Kind: fault.Unavailable, Reason: "no \x1b[31mplugin\n"}, RetryAt: when},
			"NetworkDetachFailed",
			[]Field{{"fault.op", "detach network"}, {"fault.kind", "unavailable"}, {"fault.reason", `no \x1b[31mplugin\n`}, {"retry_at", "2026-11-21T05:00:00.000000005Z"}}},
		{sandbox.SandboxLost{Fault: fault.Fault{Reason: strings.Repeat("é", valueMost)}}, "SandboxLost",
			[]Field{{"fault.reason", strings.Repeat("é", valueMost/2) + "…"}}},
		{sandbox.SandboxLost{Fault: fault.Fault{Reason: "x" + strings.Repeat("é", valueMost)}}, "SandboxLost",
			[]Field{{"fault.reason", "x" + strings.Repeat("é", valueMost/2-1) + "…"}}},
	} {
		encoded, err := EncodeSandbox(test.event)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Describe(encoded.Type, encoded.Schema, encoded.Payload)
		if err != nil || got.Name != test.name || !slices.Equal(got.Fields, test.want) {
			t.Errorf("%T is shown as %q, %v, want %q %q", test.event, got, err, test.name, test.want)
		}
	}
}

func TestDescribeAdjustment(t *testing.T) {
	encoded, err := EncodeContainer(container.ContainerCreated{Adjustment: container.Adjustment{
		Plugins: []string{"10-a", "20-b"}, JSON: `{"env":[{"key":"TOKEN","value":"hunter2"}]}`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	for value, more := range map[string][]Detail{"[redacted]": nil, "hunter2": {Environment}} {
		d, err := Describe(encoded.Type, encoded.Schema, encoded.Payload, more...)
		want := []Field{{"nri_plugins", `["10-a" "20-b"]`}, {"nri_adjustment", `{"env":[{"key":"TOKEN","value":"` + value + `"}]}`}}
		if err != nil || !slices.Equal(d.Fields, want) {
			t.Errorf("with %v shown as %q, %v, want %q", more, d.Fields, err, want)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	var unknown *UnknownTypeError
	for _, name := range []string{"", "sandbox", "sandbox.", "node.SandboxReady.v1", "volume.Mounted.v1"} {
		if d, err := Describe(name, Schema, nil); !errors.As(err, &unknown) {
			t.Errorf("%q is shown as %q, %v, want an UnknownTypeError", name, d, err)
		}
	}
	var bad *PayloadError
	if d, err := Describe("sandbox.SandboxReady.v1", Schema, []byte{0xff}); !errors.As(err, &bad) {
		t.Errorf("garbage is shown as %q, %v, want a PayloadError", d, err)
	}
}

func TestDescribeConfigs(t *testing.T) {
	requested := container.ContainerRequested{
		Config: marshalled(t, &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "web"},
			Envs:     []*cri.KeyValue{{Key: "TOKEN", Value: []byte("hunter2")}},
			Args:     []string{"a\u009bb\U000E0001"},
		}),
		SandboxConfig: marshalled(t, &cri.PodSandboxConfig{Hostname: "pod"}),
	}
	encoded, err := EncodeContainer(requested)
	if err != nil {
		t.Fatal(err)
	}
	show := func(more ...Detail) (config, sandboxConfig string) {
		t.Helper()
		d, err := Describe(encoded.Type, encoded.Schema, encoded.Payload, more...)
		if err != nil || len(d.Fields) != 2 || d.Fields[0].Name != "config" || d.Fields[1].Name != "sandbox_config" {
			t.Fatalf("shown as %q, %v, want two configurations", d, err)
		}
		return d.Fields[0].Value, d.Fields[1].Value
	}

	for _, more := range [][]Detail{nil, {Environment}} {
		config, sandboxConfig := show(more...)
		if config != size(requested.Config) || sandboxConfig != size(requested.SandboxConfig) {
			t.Errorf("with %v shown as %q and %q, want sizes only", more, config, sandboxConfig)
		}
	}

	config, sandboxConfig := show(Configs)
	if want := `{"metadata":{"name":"web"},"args":["a\u009bb\udb40\udc01"],"envs":[{"key":"TOKEN"}]}`; config != want {
		t.Errorf("config is shown as %s, want %s", config, want)
	}
	if want := `{"hostname":"pod"}`; sandboxConfig != want {
		t.Errorf("sandbox_config is shown as %s, want %s", sandboxConfig, want)
	}

	config, _ = show(Configs, Environment)
	var back struct{ Envs []struct{ Value []byte } }
	if err := json.Unmarshal([]byte(config), &back); err != nil || len(back.Envs) != 1 || string(back.Envs[0].Value) != "hunter2" {
		t.Errorf("with the environment, config is shown as %s, %v, want the variable's value in it", config, err)
	}
}

func TestDescribeConfigsOfAllEvents(t *testing.T) {
	config := marshalled(t, &cri.PodSandboxConfig{Hostname: "pod"})
	asked, err := EncodeSandbox(sandbox.SandboxRequested{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := EncodeImage(image.PullRequested{SandboxConfig: config})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Encoded{asked, pulled} {
		d, err := Describe(e.Type, e.Schema, e.Payload, Configs)
		if err != nil || len(d.Fields) != 1 || d.Fields[0].Value != `{"hostname":"pod"}` {
			t.Errorf("%s is shown as %q, %v, want its configuration", e.Type, d, err)
		}
	}
}

func TestDescribeConfigThatIsNone(t *testing.T) {
	e, err := EncodeSandbox(sandbox.SandboxRequested{Config: []byte{0xff}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Describe(e.Type, e.Schema, e.Payload, Configs)
	if err != nil || len(d.Fields) != 1 || !strings.HasPrefix(d.Fields[0].Value, "1 bytes (") {
		t.Errorf("shown as %q, %v, want the size and the reason", d, err)
	}
}

func marshalled(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
