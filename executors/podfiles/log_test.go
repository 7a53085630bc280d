package podfiles

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stele-runtime/stele/actors/fault"
)

func TestLogPath(t *testing.T) {
	root := t.TempDir()
	logs, link, file := filepath.Join(root, "logs"), filepath.Join(root, "link"), filepath.Join(root, "file")
	dangling := filepath.Join(root, "dangling")
	for _, err := range []error{os.Symlink("nowhere", dangling), os.Mkdir(logs, 0o755), os.Symlink(logs, link), os.WriteFile(file, nil, 0o644), os.WriteFile(filepath.Join(logs, "plain"), nil, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ path, directory, want string }{
		"no log":               {"", "", ""},
		"as it is":             {logs + "/0.log", logs, logs + "/0.log"},
		"through a link":       {link + "/web/0.log", link, logs + "/web/0.log"},
		"missing below a link": {link + "/pods/web/0.log", link + "/pods", logs + "/pods/web/0.log"},
		"slash at the end":     {link + "/web/0.log", link + "/", logs + "/web/0.log"},
		"missing directories":  {root + "/none/web/0.log", root + "/none", root + "/none/web/0.log"},
	} {
		if got, err := LogPath(c.path, c.directory); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, c := range map[string]struct{ path, directory string }{
		"the directory is a file":      {file + "/0.log", file},
		"a directory below is a file":  {logs + "/plain/0.log", logs},
		"a link to nothing":            {dangling + "/0.log", dangling},
		"missing below such a link":    {dangling + "/pods/0.log", dangling + "/pods"},
		"a file on the way":            {file + "/logs/0.log", file + "/logs"},
		"the directory is not a place": {logs + "/0.log", "relative"},
	} {
		if got, err := LogPath(c.path, c.directory); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestRemoveEmptyLog(t *testing.T) {
	root := t.TempDir()
	logs, outside := filepath.Join(root, "logs"), filepath.Join(root, "outside")
	for _, err := range []error{os.MkdirAll(filepath.Join(logs, "web"), 0o755), os.Mkdir(outside, 0o755), os.Symlink(outside, filepath.Join(logs, "linked"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(logs, "web", "link.log")
	if err := os.Symlink(filepath.Join(logs, "web", "aim.log"), link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file, content  string
		removed, fails bool
	}{
		"empty":            {"logs/web/0.log", "", true, false},
		"written":          {"logs/web/1.log", "a line", false, false},
		"out by a link":    {"outside/0.log", "", false, true},
		"aim of a link":    {"logs/web/aim.log", "", false, false},
		"not there at all": {"", "", true, false},
	} {
		file, log := filepath.Join(root, c.file), filepath.Join(root, c.file)
		switch c.file {
		case "":
			file, log = filepath.Join(logs, "none"), filepath.Join(logs, "nowhere", "0.log")
		case "outside/0.log":
			log = filepath.Join(logs, "linked", "0.log")
		case "logs/web/aim.log":
			log = link
		}
		if c.file != "" {
			if err := os.WriteFile(file, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := RemoveEmptyLog(log, logs); (err != nil) != c.fails {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(file); os.IsNotExist(err) != c.removed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := RemoveEmptyLog("", ""); err != nil {
		t.Error(err)
	}
}
