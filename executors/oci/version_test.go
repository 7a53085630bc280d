package oci

import "testing"

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]Version{
		"runc version 1.5.2\nspec: 1.3.0\ngo: go1.26\nlibseccomp: 2.5.4\n": {Name: "runc", Number: "1.5.2", Spec: "1.3.0"},
		"crun version 1.8.1\ncommit: x\nspec: 1.0.0\n+SYSTEMD\n":           {Name: "crun", Number: "1.8.1", Spec: "1.0.0"},
		"runsc version release-2026\nspec: 1.1.0-rc.1\n":                   {Name: "runsc", Number: "release-2026", Spec: "1.1.0-rc.1"},
		"usage: something": {},
		"":                 {},
	} {
		if got := parseVersion(out); got != want {
			t.Errorf("%q: %+v, want %+v", out, got, want)
		}
	}
}

func TestVersionBefore(t *testing.T) {
	for number, want := range map[string]bool{
		"1.1.11": true, "1.1.12": false, "1.1.5+ds1": true, "1.2.0-rc.1": false, "1.2": false, "1.1": true, "1": true, "0.9.9": true, "2.0.0": false, "release-2026": false,
	} {
		if got := (Version{Number: number}).Before(1, 1, 12); got != want {
			t.Errorf("%s: %v", number, got)
		}
	}
}
