package executors

import (
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Messages come out of a log that may be damaged.
func TestDecode(t *testing.T) {
	if err := decode([]byte{0xff}, &runtimeapi.PodSandboxConfig{}); err == nil {
		t.Error("what is no message was decoded")
	}
}
