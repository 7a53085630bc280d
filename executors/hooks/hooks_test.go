package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// write makes a file in a directory.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// hookOf is a hook that runs /bin/sh with an argument.
func hookOf(arg, when string, stages ...string) string {
	return fmt.Sprintf(`{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh",%q]},"when":%s,"stages":["%s"]}`, arg, when, strings.Join(stages, `","`))
}

// added are the hooks that a container gets, as "stage: argument".
func added(t *testing.T, dirs Dirs, c Container, command string) []string {
	t.Helper()
	s := &specs.Spec{Process: &specs.Process{Args: []string{command}}}
	if err := dirs.Add(s, c); err != nil {
		t.Fatal(err)
	}
	if s.Hooks == nil {
		return nil
	}
	var all []string
	for _, stage := range []struct {
		name  string
		hooks []specs.Hook
	}{
		{"createRuntime", s.Hooks.CreateRuntime}, {"createContainer", s.Hooks.CreateContainer},
		{"startContainer", s.Hooks.StartContainer}, {"poststart", s.Hooks.Poststart}, {"poststop", s.Hooks.Poststop},
	} {
		for _, h := range stage.hooks {
			all = append(all, stage.name+": "+h.Args[1])
		}
	}
	return all
}

func TestAdd(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	dirs := Dirs{first, filepath.Join(first, "missing"), second}
	write(t, first, "20-always.json", hookOf("always", `{"always":true}`, "createRuntime", "poststop"))
	write(t, first, "10-old.json", hookOf("old", `{"always":true}`, "prestart"))
	write(t, first, "30-hidden.json", hookOf("hidden", `{"always":true}`, "poststart"))
	write(t, second, "30-hidden.json", hookOf("instead", `{"always":true}`, "poststart"))
	write(t, second, "40-never.json", hookOf("never", `{"always":false}`, "poststart"))
	write(t, second, "50-command.json", hookOf("command", `{"commands":["^/bin/(a|b)$"]}`, "createContainer"))
	write(t, second, "60-annotated.json", hookOf("annotated", `{"annotations":{"^gpu$":"^[1-9]$","kind":".*"}}`, "startContainer"))
	write(t, second, "70-mounts.json", hookOf("mounts", `{"hasBindMounts":true}`, "startContainer"))
	write(t, second, "README", "no hook")
	write(t, second, "81.json.disabled", "{")

	always := "createRuntime: old|createRuntime: always"
	rest := "|poststart: instead|poststop: always"
	for name, c := range map[string]struct {
		container Container
		command   string
		want      string
	}{
		"plain":     {Container{}, "/bin/c", always + rest},
		"a command": {Container{}, "/bin/b", always + "|createContainer: command" + rest},
		"annotated": {Container{Annotations: map[string]string{"gpu": "2", "kind": ""}}, "/bin/c", always + "|startContainer: annotated" + rest},
		"in part":   {Container{Annotations: map[string]string{"gpu": "2"}}, "/bin/c", always + rest},
		"otherwise": {Container{Annotations: map[string]string{"gpu": "22", "kind": ""}}, "/bin/c", always + rest},
		"mounts":    {Container{HasBindMounts: true}, "/bin/c", always + "|startContainer: mounts" + rest},
	} {
		if got := strings.Join(added(t, dirs, c.container, c.command), "|"); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	// A change counts at once.
	write(t, second, "30-hidden.json", hookOf("changed", `{"always":true}`, "poststart"))
	if got := strings.Join(added(t, dirs, Container{}, "/bin/c"), "|"); !strings.Contains(got, "poststart: changed") {
		t.Errorf("after a change: %s", got)
	}
	if got := added(t, nil, Container{}, "/bin/c"); got != nil {
		t.Errorf("hooks of no directory: %v", got)
	}
}

// What is no hook is refused, with the names of all such files, and before anything is
// added.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	dirs := Dirs{dir}
	write(t, dir, "00-good.json", hookOf("good", `{"always":true}`, "poststart"))
	var paths []string
	for name, content := range map[string]string{
		"empty.json": "", "cut.json": `{"version":"1.0.0"`, "version.json": `{"version":"7"}`, "null.json": "null",
		"path.json":     `{"version":"1.0.0","hook":{},"when":{"always":true},"stages":["poststop"]}`,
		"gone.json":     `{"version":"1.0.0","hook":{"path":"/no/such/program"},"when":{"always":true},"stages":["poststop"]}`,
		"relative.json": `{"version":"1.0.0","hook":{"path":"."},"when":{"always":true},"stages":["poststop"]}`,
		"stage.json":    hookOf("x", `{"always":true}`, "preboot"),
		"stages.json":   `{"version":"1.0.0","hook":{"path":"/bin/sh"},"when":{"always":true}}`,
		"pattern.json":  hookOf("x", `{"commands":["("]}`, "poststop"),
		"long.json":     strings.Repeat(" ", maxFile+1),
	} {
		paths = append(paths, write(t, dir, name, content))
	}
	for name, target := range map[string]string{"nowhere.json": "/no/such/file", "device.json": "/dev/zero"} {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths = append(paths, filepath.Join(dir, "folder.json"))
	s := &specs.Spec{Process: &specs.Process{Args: []string{"x"}}}
	for _, err := range []error{dirs.Check(), dirs.Add(s, Container{})} {
		for _, path := range paths {
			if err == nil || !strings.Contains(err.Error(), "hook "+path+": ") {
				t.Errorf("%v does not name %s", err, path)
			}
		}
		if err != nil && strings.Contains(err.Error(), "good") {
			t.Errorf("a good hook is refused: %v", err)
		}
	}
	if s.Hooks != nil {
		t.Error("hooks were added beside bad ones")
	}
	if err := (Dirs{paths[0]}).Check(); err == nil {
		t.Error("a file was taken for a directory")
	}
}
