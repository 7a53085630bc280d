package apparmor

import (
	"strings"
	"testing"
)

func TestLists(t *testing.T) {
	list := "docker-default (enforce)\nmy profile (complain)\n"
	for name, want := range map[string]bool{"docker-default": true, "my profile": true, "docker": false, "my": false} {
		if got, err := lists(strings.NewReader(list), name); got != want || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
}

// On a node with AppArmor, a profile that somebody has unloaded is there again.
func TestLoad(t *testing.T) {
	if !Enabled() {
		if _, err := Loaded("x"); err == nil {
			t.Error("a profile was looked up without AppArmor")
		}
		return
	}
	const name = "stele-test"
	if err := Load(name); err != nil {
		t.Fatal(err)
	}
	if loaded, err := Loaded(name); !loaded || err != nil {
		t.Errorf("loaded: %v, %v", loaded, err)
	}
}
