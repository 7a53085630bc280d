package lean

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
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
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	if some, err := untouched(bytes.NewReader(smaps), program); err != nil || len(some) == 0 {
		t.Fatalf("nothing can be given back of\n%s", smaps)
	}
	before, err := Resident()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(Recache(), LetGo()); err != nil {
		t.Fatal(err)
	}
	if after, err := Resident(); err != nil || after.Own+after.Files >= before.Own+before.Files {
		t.Errorf("%v pages, before %v: %v", after, before, err)
	}
}
