package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestAsked(t *testing.T) {
	all, err := Asked([]string{"vendor.example/engine=one", "vendor.example/engine=one"}, map[string]string{
		"cdi.k8s.io/b": "vendor.example/engine=two,vendor.example/engine=one", "other": "nonsense",
	})
	if err != nil || len(all) != 2 || all[0].Field != "CDI_devices[0].name" || all[1] != (Named{"annotations[cdi.k8s.io/b]", "vendor.example/engine=two"}) {
		t.Errorf("%v, %v", all, err)
	}
	for _, bad := range []string{"", "=", "/", "/=", "v/c=d", "vendor/c=d", "v/class=d", "vendor/class", "vendor/class=", "vendor/cl/ass=d", "-v/class=d", "vendor/class=d\x00"} {
		if _, err := Asked([]string{bad}, nil); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "CDI_devices[0].name") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Asked(nil, map[string]string{"cdi.k8s.io/x": bad}); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "annotations[cdi.k8s.io/x]") {
			t.Errorf("annotation %q: %v", bad, err)
		}
	}
}

// The library panics at such a kind.
func TestSpecificationOfOneLetter(t *testing.T) {
	dir := t.TempDir()
	content := `{"cdiVersion": "0.6.0", "kind": "v/c", "devices": [{"name": "d", "containerEdits": {"env": ["A=b"]}}]}`
	if err := os.WriteFile(filepath.Join(dir, "v.json"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	err := Dirs{dir}.Inject(&specs.Spec{}, []Named{{"CDI_devices[0].name", "vendor/class=d"}})
	if fault.KindOf(err) != fault.Precondition || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}
