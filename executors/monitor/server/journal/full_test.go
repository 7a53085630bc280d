package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// smallDisk mounts a tmpfs of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp leaves no room on a disk, to the byte, until the returned function is called.
func fillUp(t *testing.T, dir string) (free func()) {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "ballast"))
	must(t, err)
	defer file.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(block)
	}
	return func() { must(t, os.Remove(file.Name())) }
}

// exitsUntilFull adds exits until one is refused, and returns how many were added, the
// refused one included.
func exitsUntilFull(t *testing.T, j *Journal) int {
	t.Helper()
	for i := 1; ; i++ {
		if err := j.Exited(&pb.Exit{ContainerId: "c", Note: strings.Repeat("x", 3000)}); err != nil {
			return i
		}
		if i > 1000 {
			t.Fatal("the disk did not fill up")
		}
	}
}

// A record that a full disk cuts in two hides none of those after it, and is there when
// there is room.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "journal")
	j := mustOpen(t, path)
	must(t, j.Created(&pb.Container{Id: "c"}))
	free := fillUp(t, dir)
	n := exitsUntilFull(t, j)
	if data, err := os.ReadFile(path); err != nil {
		t.Error(err)
	} else if _, why := new(Journal).replayInto(data); why != nil {
		t.Errorf("the file is damaged while the disk is full: %v", why)
	}
	free()
	must(t, j.Exited(&pb.Exit{ContainerId: "c", Code: 7}))
	must(t, j.Created(&pb.Container{Id: "d"}))
	must(t, j.Close())
	j = mustOpen(t, path)
	defer j.Close()
	if j.Damage() != "" {
		t.Errorf("the journal is damaged: %s", j.Damage())
	}
	if got := len(seqs(j, 0)); got != n+1 {
		t.Errorf("%d exits are there, want %d", got, n+1)
	}
	if got := j.Containers(); len(got) != 2 || got[0].Exit.GetCode() != 7 {
		t.Errorf("the containers are %v", got)
	}
}

// replayInto replays data into an empty state.
func (j *Journal) replayInto(data []byte) ([]byte, error) {
	j.state = newState()
	return j.replay(data)
}

// On a full disk the next monitor opens the journal, and there is room for exits.
func TestOpenOnFullDisk(t *testing.T) {
	for _, torn := range []int{0, 5} {
		t.Run(fmt.Sprint("torn by ", torn), func(t *testing.T) {
			dir := smallDisk(t)
			path := filepath.Join(dir, "journal")
			j := mustOpen(t, path)
			fill(t, j)
			must(t, j.Close())
			info, err := os.Stat(path)
			must(t, err)
			if torn > 0 {
				must(t, os.Truncate(path, info.Size()-int64(torn)))
			}
			defer fillUp(t, dir)()
			j = mustOpen(t, path)
			if (j.Damage() != "") != (torn > 0) {
				t.Errorf("the damage is %q", j.Damage())
			}
			for range 200 {
				// After damage there may be no room; the monitor knows the exit even so.
				if err := j.Exited(&pb.Exit{ContainerId: "b", Note: strings.Repeat("x", 200)}); err != nil && torn == 0 {
					t.Fatal(err)
				}
			}
			if got, want := len(seqs(j, 0)), 202; torn == 0 && got != want || torn > 0 && got != want-1 {
				t.Errorf("%d exits are there", got)
			}
			must(t, j.Close())
		})
	}
}

// A record that is too large is refused, and spoils nothing.
func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := mustOpen(t, path)
	if err := j.Created(&pb.Container{Id: "big", LogPath: strings.Repeat("x", maxPayload)}); err == nil {
		t.Error("a record of more than the maximal size was taken")
	}
	fill(t, j)
	must(t, j.file.rewrite(j.state.records()))
	must(t, j.Close())
	j = mustOpen(t, path)
	defer j.Close()
	if got := j.Containers(); j.Damage() != "" || len(got) != 2 {
		t.Errorf("the containers are %v, the damage %q", got, j.Damage())
	}
}
