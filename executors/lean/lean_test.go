package lean

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Only what a file has all of is given back.
func TestUntouched(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 08:01 42                                 /usr/bin/stele
Size:               1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r-xp 00100000 08:01 42                                 /usr/bin/stele
Anonymous:             4 kB
00600000-00700000 r--p 00200000 08:01 42                                 /usr/bin/stele
Anonymous:             0 kB
AnonHugePages:         0 kB
00700000-00800000 rw-p 00300000 08:01 42                                 /usr/bin/stele
Anonymous:             0 kB
00800000-00900000 r--s 00000000 08:01 43                                 /var/lib/events.db
Anonymous:             0 kB
00900000-00a00000 r-xp 00000000 00:00 0                                  [vdso]
Anonymous:             0 kB
00a00000-00b00000 r--p 00000000 08:01 44                                 /usr/bin/stele-monitor
Anonymous:             0 kB
`
	want := []pages{{0x400000, 0x500000, true}, {0x600000, 0x700000, true}, {0x800000, 0x900000, false}}
	if got, err := untouched(strings.NewReader(smaps), "/usr/bin/stele"); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, not %+v", got, err, want)
	}
}

// A process goes on as before, with fewer pages.
func TestLetGo(t *testing.T) {
	const pages = 64
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(bytes.Repeat([]byte{7}, pages*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	mapped := func() []byte {
		content, err := unix.Mmap(int(file.Fd()), 0, pages*os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(content) })
		if bytes.Count(content, []byte{7}) != len(content) { // reads every page
			t.Fatal("the file is not what was written")
		}
		return content
	}
	given, another := mapped(), mapped()
	before, err := Resident()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Recache(), LetGo(func(use func(uintptr) error) error {
		return use(uintptr(unsafe.Pointer(&given[0])))
	})); err != nil {
		t.Fatal(err)
	}
	if after, err := Resident(); err != nil || after.Own+after.Files >= before.Own+before.Files {
		t.Errorf("%v pages, before %v: %v", after, before, err)
	}
	if n := inMemory(t, given); n != 0 {
		t.Errorf("%d KiB of the file are still mapped", n)
	}
	// It may be nobody's any more.
	if n := inMemory(t, another); n == 0 {
		t.Error("a file that was not given is no longer in memory")
	}
}

// inMemory is how much of a mapping is in memory, in KiB.
func inMemory(t *testing.T, mapping []byte) (size int) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(smaps), fmt.Sprintf("%x-", uintptr(unsafe.Pointer(&mapping[0]))))
	_, rest, _ = strings.Cut(rest, "\nRss:")
	if _, err := fmt.Sscan(rest, &size); err != nil {
		t.Fatal(err)
	}
	return size
}
