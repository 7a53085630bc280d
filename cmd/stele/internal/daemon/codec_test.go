package daemon

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// An answer that is encoded already is sent as it is, and everything else as gRPC does it.
func TestCodec(t *testing.T) {
	list := &runtimeapi.ListContainersResponse{Containers: []*runtimeapi.Container{{Id: "a"}, {Id: "b"}}}
	encoded, err := proto.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	again, both := &runtimeapi.ListContainersResponse{}, &runtimeapi.ListContainersResponse{Containers: list.Containers[1:]}
	again.ProtoReflect().SetUnknown(encoded)
	first, err := proto.Marshal(&runtimeapi.ListContainersResponse{Containers: list.Containers[:1]})
	if err != nil {
		t.Fatal(err)
	}
	both.ProtoReflect().SetUnknown(first)
	for _, test := range []struct {
		name   string
		answer *runtimeapi.ListContainersResponse
		copied bool
	}{{"decoded", list, true}, {"encoded", again, false}, {"both", both, true}, {"empty", &runtimeapi.ListContainersResponse{}, true}} {
		want, err := proto.Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := newCodec().Marshal(test.answer)
		if err != nil {
			t.Fatal(err)
		}
		got := sent.Materialize()
		if !bytes.Equal(got, want) {
			t.Errorf("%s: sent as %x, not %x", test.name, got, want)
		}
		if len(got) > 0 && &sent[0].ReadOnlyData()[0] == &encoded[0] == test.copied {
			t.Errorf("%s: copied is %t, want %t", test.name, !test.copied, test.copied)
		}
	}
}
