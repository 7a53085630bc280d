package handover

import (
	"context"
	"strings"
	"sync"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/executors/streams"
)

func TestCredentials(t *testing.T) {
	c := NewCredentials()
	me := func() *runtimeapi.AuthConfig { return &runtimeapi.AuthConfig{Username: "me", Password: "secret"} }
	pull, drop := c.Keep("web:1", "default", me())
	same, dropSame := c.Keep("web:1", "default", me())
	if same != pull {
		t.Error("equal credentials for one reference have two ids")
	}
	for name, other := range map[string]func() (string, string, *runtimeapi.AuthConfig){
		"another password": func() (string, string, *runtimeapi.AuthConfig) {
			return "web:1", "default", &runtimeapi.AuthConfig{Username: "me", Password: "other"}
		},
		"none":              func() (string, string, *runtimeapi.AuthConfig) { return "web:1", "default", nil },
		"another namespace": func() (string, string, *runtimeapi.AuthConfig) { return "web:1", "other", me() },
		"another reference": func() (string, string, *runtimeapi.AuthConfig) { return "web:2", "default", me() },
	} {
		id, drop := c.Keep(other())
		if id == pull {
			t.Errorf("%s has the same id", name)
		}
		drop()
	}
	if elsewhere, _ := NewCredentials().Keep("web:1", "default", me()); elsewhere == pull {
		t.Error("another daemon gives the same id: the password could be guessed from it")
	}
	if strings.Contains(string(pull), "secret") {
		t.Error("the id tells the password")
	}

	drop()
	drop() // a second time changes nothing
	if auth, ok := c.Find(pull); !ok || auth.GetPassword() != "secret" {
		t.Error("the credentials are gone while a call uses them")
	}
	dropSame()
	if _, ok := c.Find(pull); ok || len(c.pulls) > 0 {
		t.Error("the credentials are kept after the last use")
	}
}

func TestCredentialsConcurrently(t *testing.T) {
	c := NewCredentials()
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for range 100 {
				pull, drop := c.Keep("web:1", "default", nil)
				if _, ok := c.Find(pull); !ok {
					t.Error("not found while it is kept")
				}
				drop()
			}
		})
	}
	callers.Wait()
	if len(c.pulls) > 0 {
		t.Error("something is kept")
	}
}

func TestExecs(t *testing.T) {
	x := NewExecs()
	ctx := context.WithValue(t.Context(), ctxKey{}, "caller")
	var stdout strings.Builder
	end := x.Begin(ctx, "x", streams.Stdio{Stdout: &stdout, Terminal: streams.Always})
	caller, waits := x.Caller("x")
	if !waits || caller.Context.Value(ctxKey{}) != "caller" || caller.Stdio.Stdout != &stdout || caller.Stdio.Terminal != streams.Always {
		t.Errorf("the caller is %+v", caller)
	}
	if _, waits := x.Caller("nobody"); waits {
		t.Error("somebody waits for an unknown command")
	}
	end()
	if _, waits := x.Caller("x"); waits || len(x.calls) > 0 {
		t.Error("something is left behind")
	}
}

type ctxKey struct{}
