package facts

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/actors/codec"
	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/timeline"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Facts leave out what is secret, what is no file and what is too long, and say so.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "stele.toml")
	put(t, config, `proxy = "https://me:hunter2@proxy.test/"`)
	put(t, filepath.Join(dir, "10-net.conflist"), `{"name": "n", "plugins": [{"type": "x", "password": "hunter2", "apiToken": "hunter2", "server": "https://me:hunter2@x.test/", "keyFile": "hunter2", "monkey": 1}]}`)
	put(t, filepath.Join(dir, "20-other.conf"), `no JSON, hunter2`)
	put(t, filepath.Join(dir, "30-long.json"), `"`+strings.Repeat("x", fileMost)+`"`)
	if err := unix.Mkfifo(filepath.Join(dir, "40-pipe.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	warnings := &strings.Builder{}
	n := Node{Stele: "v1", Config: config, Warnings: warnings, Info: func() (map[string]string, error) {
		return map[string]string{"config": `{"cniConfDir": "` + dir + `"}`, "text": "no JSON"}, nil
	}}
	got := map[string]string{}
	take := func(name string, content []byte) error {
		got[name] = string(content)
		return nil
	}
	if err := n.Write(take); err != nil {
		t.Fatal(err)
	}
	for name, content := range got {
		if strings.Contains(content, "hunter2") {
			t.Errorf("%s has a secret: %s", name, content)
		}
	}
	if len(got) != 3 || !strings.Contains(got["node/cni/10-net.conflist"], `"monkey": 1`) || !strings.Contains(got["node/config.toml"], "proxy.test") {
		t.Errorf("written are %q", got)
	}
	var about struct{ Stele string }
	if err := json.Unmarshal([]byte(got["node/facts.json"]), &about); err != nil || about.Stele != "v1" {
		t.Errorf("the facts are %q, %v", got["node/facts.json"], err)
	}
	for _, left := range []string{"20-other.conf", "30-long.json", "40-pipe.conf"} {
		if !strings.Contains(warnings.String(), left) {
			t.Errorf("%s is left out without a word: %s", left, warnings)
		}
	}
	full := errors.New("no space")
	if err := n.Write(func(string, []byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	n.Info = func() (map[string]string, error) { return nil, errors.New("it does not answer") }
	if err := n.Write(take); err != nil || !strings.Contains(warnings.String(), "it does not answer") {
		t.Errorf("a daemon that is gone: %v, %s", err, warnings)
	}
}

func TestLogs(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.log"), strings.Repeat("0123456789abcde\n", fileMost/16+10))
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := timeline.New()
	for id, path := range map[string]string{"a": "a.log", "gone": "gone.log", "pipe": "pipe.log", "none": ""} {
		if path != "" {
			path = filepath.Join(dir, path)
		}
		e, err := codec.EncodeContainer(container.ContainerRequested{LogPath: path})
		if err != nil {
			t.Fatal(err)
		}
		line.Add(timeline.Record{Sequence: 1, Version: 1, Stream: "container/" + id, Type: e.Type, Schema: e.Schema, Payload: e.Payload})
	}
	warnings := &strings.Builder{}
	got := map[string]string{}
	err := Node{Warnings: warnings}.Logs(line, func(name string, content []byte) error {
		got[name] = string(content)
		return nil
	})
	if err != nil || len(got) != 1 || !strings.HasPrefix(got["logs/a.log"], "0123") || len(got["logs/a.log"]) > fileMost || len(got["logs/a.log"]) < fileMost-16 {
		t.Errorf("%d logs, of %d bytes, %v", len(got), len(got["logs/a.log"]), err)
	}
	if !strings.Contains(warnings.String(), "pipe.log") || strings.Contains(warnings.String(), "gone.log") {
		t.Errorf("warned of %q", warnings)
	}
}
