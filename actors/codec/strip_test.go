package codec

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/image"
)

func TestWithoutSecrets(t *testing.T) {
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "hunter2")
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "web"}, Command: []string{"serve"},
		Envs: []*cri.KeyValue{{Key: "PASSWORD", Value: []byte("hunter2")}},
	}
	config.ProtoReflect().SetUnknown(unknown)
	encoded, err := proto.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	requested, err := EncodeContainer(container.ContainerRequested{ID: "c", Config: encoded})
	if err != nil {
		t.Fatal(err)
	}
	requested.Payload = append(requested.Payload, unknown...)
	created, err := EncodeContainer(container.ContainerCreated{Adjustment: container.Adjustment{Plugins: []string{"10-a"}, JSON: `{"env":[{"key":"TOKEN","value":"hunter2"}]}`}})
	if err != nil {
		t.Fatal(err)
	}
	pull, err := EncodeImage(image.PullRequested{Ref: "https://me:hunter2@lab.test/app", Pull: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for what, e := range map[string]Encoded{"a request": requested, "a creation": created, "a pull": pull} {
		if !bytes.Contains(e.Payload, []byte("hunter2")) {
			t.Errorf("%s has no secret to remove", what)
		}
		got, err := WithoutSecrets(e.Type, e.Schema, e.Payload)
		if err != nil || bytes.Contains(got, []byte("hunter2")) {
			t.Errorf("%s keeps its secret: %q, %v", what, got, err)
		}
		if _, err := Describe(e.Type, e.Schema, got, Configs); err != nil {
			t.Errorf("%s cannot be read any more: %v", what, err)
		}
	}
	// The rest is as it was.
	got, err := WithoutSecrets(requested.Type, requested.Schema, requested.Payload)
	if err != nil {
		t.Fatal(err)
	}
	event, err := DecodeContainer(requested.Type, requested.Schema, got)
	if err != nil {
		t.Fatal(err)
	}
	var left cri.ContainerConfig
	if err := proto.Unmarshal(event.(container.ContainerRequested).Config, &left); err != nil {
		t.Fatal(err)
	}
	if left.GetMetadata().GetName() != "web" || strings.Join(left.GetCommand(), " ") != "serve" || len(left.GetEnvs()) != 1 || left.GetEnvs()[0].GetKey() != "PASSWORD" {
		t.Errorf("left is %v", &left)
	}
	if _, err := WithoutSecrets("container.New.v9", Schema, nil); err == nil {
		t.Error("an unknown event is passed on")
	}
	broken, err := EncodeContainer(container.ContainerRequested{ID: "c", Config: []byte{0xff}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WithoutSecrets(broken.Type, broken.Schema, broken.Payload); err == nil {
		t.Error("a configuration that cannot be read is passed on")
	}
	var payload *PayloadError
	if _, err := WithoutSecrets(requested.Type, requested.Schema, []byte{0xff}); !errors.As(err, &payload) {
		t.Errorf("a damaged payload: %v", err)
	}
}
