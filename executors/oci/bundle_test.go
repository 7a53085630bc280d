package oci

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What is kept of a specification is what was written.
func TestKept(t *testing.T) {
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	want := &specs.Spec{
		Process: &specs.Process{Terminal: true, Args: []string{"sh"}, Env: []string{"A=b"}, Cwd: "/", User: specs.User{UID: 7, GID: 8}},
		Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/hook"}}},
		Linux:   &specs.Linux{CgroupsPath: "/a/b", IntelRdt: &specs.LinuxIntelRdt{ClosID: "c"}, UIDMappings: mapping, GIDMappings: mapping},
	}
	written := *want
	linux := *want.Linux
	linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	written.Linux, written.Version = &linux, specs.Version
	bundle := t.TempDir()
	if err := writeConfig(bundle, &written); err != nil {
		t.Fatal(err)
	}
	got, err := readKept(bundle)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("kept %+v, want %+v: %v", got, want, err)
	}
	data, err := json.Marshal(specs.Spec{Version: specs.Version})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(configPath(bundle), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readKept(bundle); err != nil || got.Linux != nil || got.Process != nil || got.Hooks != nil {
		t.Errorf("kept %+v of an empty specification: %v", got, err)
	}
}
