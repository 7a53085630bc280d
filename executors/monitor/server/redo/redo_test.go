package redo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
)

// path returns the path of a missing file on a tmpfs.
func path(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stele-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "redo")
}

func open(t testing.TB, path string) (f *File, damage string) {
	t.Helper()
	f, damage, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f, damage
}

func closeFile(t testing.TB, f *File) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// use leaves a flight and a carry.
func (f *File) use(t testing.TB, key Key) {
	t.Helper()
	c := f.Carry(key)
	if err := c.Reserve(); err != nil {
		t.Fatal(err)
	}
	c.Set([]byte("carried "))
	op := Op{Key: key, Stream: crilog.Stderr, Carried: copy(f.flight.Buffer(), c.Bytes())}
	f.flight.Read(op, 100, nil)
	copy(f.flight.Buffer()[op.Carried:], bytes.Repeat([]byte("read\n"), 20))
	f.flight.Landed(op, 100, time.Unix(5, 6))
}

func TestOpen(t *testing.T) {
	path, key := path(t), Key{Inode: 7}
	f, damage := open(t, path)
	if damage != "" || len(f.Left()) > 0 || len(f.Carries()) > 0 {
		t.Errorf("a new file has something: %s", damage)
	}
	f.use(t, key)
	f.flight.Writing(crilog.Note{Inode: 9, To: 50})
	closeFile(t, f)

	if f, damage = open(t, path); damage != "" {
		t.Error(damage)
	}
	left := f.Left()
	if len(left) != 1 || left[0].Key() != key {
		t.Fatalf("%d flights are left", len(left))
	}
	p, ok := left[0].Recover(time.Now())
	if !ok || !p.Noted || !p.Begun || p.Note.Inode != 9 || p.Note.To != 50 {
		t.Errorf("it is %v, %+v", ok, p.Note)
	}
	b := p.Batch
	if b.Stream != crilog.Stderr || !b.Time.Equal(time.Unix(5, 6)) || string(b.Data) != "carried "+strings.Repeat("read\n", 20) {
		t.Errorf("the batch is %+v", b)
	}
	left[0].Written()
	if p, _ := left[0].Recover(time.Now()); !p.Noted || p.Begun {
		t.Errorf("a write that is over is %+v", p)
	}
	c := f.Carry(key)
	if string(c.Bytes()) != "carried " {
		t.Errorf("the carry is %q", c.Bytes())
	}
	c.Set([]byte("more"))
	left[0].Done()
	closeFile(t, f)

	f, _ = open(t, path)
	c = f.Carry(key)
	if len(f.Left()) > 0 || len(f.Carries()) != 1 || string(c.Bytes()) != "more" {
		t.Errorf("%d flights and %d carries are left; the carry is %q", len(f.Left()), len(f.Carries()), c.Bytes())
	}
	c.Drop()
	c.Drop()
	closeFile(t, f)
	f, _ = open(t, path)
	if len(f.Carries()) > 0 {
		t.Error("a carry that was dropped is there")
	}
	closeFile(t, f)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode != unix.S_IFREG|0o600 || st.Blocks*512 > 512<<10 {
		t.Errorf("the file has the mode %#o and %d KiB, %v", st.Mode, st.Blocks/2, err)
	}
}

// The destination shows whether data have arrived.
func TestArrived(t *testing.T) {
	f, err := Temporary()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	for _, carried := range []int{0, 9, MaxCarry} {
		for _, size := range []int{1, 2, markSize - 1, markSize, markSize + 1, pageSize - 1, pageSize, pageSize + 1, pageSize + markSize, pageSize + markSize + 1, MaxRead} {
			for _, fill := range []byte{0, 'x', 0xff} {
				data := bytes.Repeat([]byte{fill}, size)
				op := Op{Carried: carried}
				f.flight.Read(op, size, data[:min(size, Short)])
				if got := f.flight.arrived(); got != 0 {
					t.Errorf("%d bytes of %d have arrived before they were read", got, size)
				}
				// The last bytes of what was read may be what was there before.
				f.flight.Read(op, size, data[:min(size, Short)])
				copy(f.flight.Buffer()[carried:], data)
				oneMore := false // is by chance what was there before
				if size >= markSize {
					end := min(size, pageSize) - alike
					copy(f.flight.Buffer()[carried+size-alike:][:alike], f.pattern()[end:])
					oneMore = f.pattern()[end-1] == fill
				}
				if got := f.flight.arrived(); got != size && !oneMore {
					t.Errorf("%d bytes of %d have arrived, want all", got, size)
				}
				// A packet is shorter.
				for _, n := range []int{min(size, 1), min(size, 50), min(size, pageSize)} {
					f.flight.Read(op, size, data[:min(size, Short)])
					copy(f.flight.Buffer()[carried:], data[:n])
					got := f.flight.arrived()
					byChance := size >= markSize && (f.pattern()[n-1] == fill || got == size && size-n <= alike)
					if got != n && !byChance {
						t.Errorf("%d bytes of %d have arrived, want %d", got, size, n)
					}
				}
			}
		}
	}
}

// A terminal can't be peeked at, and the data may equal what was there before: then the
// packet's header decides.
func TestArrivedFromTerminal(t *testing.T) {
	f, err := Temporary()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	op := Op{Key: Key{Device: 1, Inode: 1, Terminal: 1}, Carried: 5}
	for _, size := range []int{1, 2, markSize - 1, markSize, pageSize} {
		for _, header := range []byte{unix.TIOCPKT_FLUSHREAD, unix.TIOCPKT_FLUSHWRITE | unix.TIOCPKT_NOSTOP} {
			f.flight.Read(op, size, nil)
			f.flight.Header()[0] = header
			if got := f.flight.arrived(); got != 0 {
				t.Errorf("%d bytes of %d have arrived with the header %#x", got, size, header)
			}
		}
		f.flight.Read(op, size, nil)
		if got := f.flight.arrived(); got != 0 {
			t.Errorf("%d bytes of %d have arrived before they were read", got, size)
		}
		f.flight.Header()[0] = unix.TIOCPKT_DATA
		if size >= markSize {
			f.flight.Buffer()[op.Carried] ^= 0xff
		}
		if got := f.flight.arrived(); got != size && size < markSize {
			t.Errorf("%d bytes of %d have arrived, want all", got, size)
		}
	}
}

// An earlier process may have left anything: damage is reported, and the file is made
// anew.
func TestDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(path string) error
	}{
		{"short", func(path string) error { return os.Truncate(path, 100) }},
		{"long", func(path string) error { return os.Truncate(path, int64(fileSize)+1) }},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"a link", func(path string) error {
			if err := os.Rename(path, path+".other"); err != nil {
				return err
			}
			return os.Symlink(path+".other", path)
		}},
		{"a directory", func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		}},
		{"of another version", func(path string) error { return poke(path, 11, '9') }},
		{"with a state that there is not", func(path string) error { return poke(path, 256, 77) }},
		{"with too much read", func(path string) error { return poke(path, int64(flightsAt)+50, 77) }},
		{"with too many carries", func(path string) error { return poke(path, 256+4*flights+3, 77) }},
		{"with a carry that is too long", func(path string) error { return poke(path, int64(tableAt)+12, 77) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := path(t)
			f, _ := open(t, path)
			f.use(t, Key{Inode: 7})
			closeFile(t, f)
			if err := test.damage(path); err != nil {
				t.Fatal(err)
			}
			f, damage := open(t, path)
			if damage == "" || len(f.Left()) > 0 || len(f.Carries()) > 0 {
				t.Errorf("the damage is %q, and %d flights are left", damage, len(f.Left()))
			}
			t.Log(damage)
			f.use(t, Key{Inode: 8})
			closeFile(t, f)
			if _, err := os.Lstat(path + ".damaged"); err != nil {
				t.Error(err)
			}
			if f, damage = open(t, path); damage != "" || len(f.Left()) != 1 {
				t.Errorf("the new one has %q, and %d flights are left", damage, len(f.Left()))
			}
			closeFile(t, f)
		})
	}
}

func poke(path string, at int64, value byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{value}, at)
	return err
}

// Whatever the heads contain, no memory outside the file is touched.
func TestAnyDamage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		path := path(t)
		f, _ := open(t, path)
		f.use(t, Key{Inode: 7})
		f.flight.Writing(crilog.Note{To: 50})
		closeFile(t, f)
		for range 1 + random.IntN(4) {
			at := random.Int64N(400)
			switch random.IntN(3) {
			case 0:
				at += int64(tableAt)
			case 1:
				at += int64(flightsAt)
			}
			if err := poke(path, at, byte(random.UintN(256))); err != nil {
				t.Fatal(err)
			}
		}
		f, _ = open(t, path)
		for _, l := range f.Left() {
			l.Recover(time.Now())
			l.Done()
		}
		for _, c := range f.Carries() {
			c.Bytes()
			c.Drop()
		}
		f.use(t, Key{Inode: 8})
		closeFile(t, f)
	}
}

// There is room for as many deaths as there are flights, and then for one more.
func TestManyDeaths(t *testing.T) {
	path := path(t)
	for i := range flights + 1 {
		f, damage := open(t, path)
		if want := i == flights; (damage != "") != want {
			t.Errorf("death %d: the damage is %q", i, damage)
		}
		if got := len(f.Left()); got != i%flights {
			t.Errorf("death %d: %d flights are left", i, got)
		}
		f.use(t, Key{Inode: uint64(i)})
		closeFile(t, f)
	}
}

// Unfinished lines cost memory only while they exist.
func TestManyCarries(t *testing.T) {
	path := path(t)
	f, _ := open(t, path)
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(f.fd, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	var all []Carry
	for i := range carries {
		c := f.Carry(Key{Inode: uint64(i)})
		if err := c.Reserve(); err != nil {
			t.Fatal(err)
		}
		c.Set(fmt.Append(nil, i))
		all = append(all, c)
	}
	over := f.Carry(Key{Inode: carries})
	if err := over.Reserve(); err == nil {
		t.Error("there is room for one too many")
	}
	over.Set([]byte("over"))
	if len(over.Bytes()) > 0 {
		t.Error("a carry without a place has something")
	}
	closeFile(t, f)
	f, _ = open(t, path)
	for i := range all {
		c := f.Carry(Key{Inode: uint64(i)})
		if got := string(c.Bytes()); got != fmt.Sprint(i) {
			t.Errorf("carry %d is %q", i, got)
		}
		c.Set(nil)
	}
	if got := blocks(); got > 2<<20 {
		t.Errorf("%d lines that are over take %d KiB", carries, got>>10)
	}
	closeFile(t, f)
}

// A process that is killed in its flight is followed by another even if the disk is full.
func TestDeathsOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	path := dir + "/redo"
	f, _ := open(t, path)
	f.use(t, Key{Inode: 1})
	ballast := bytes.Repeat([]byte{'x'}, 512<<10)
	if err := os.WriteFile(dir+"/ballast", ballast, 0o600); err == nil {
		t.Error("the disk is not full")
	}
	for i := range 5 {
		closeFile(t, f)
		var damage string
		if f, damage = open(t, path); damage != "" {
			t.Fatalf("death %d: %s", i, damage)
		}
		left := f.Left()
		if len(left) != 1 {
			t.Fatalf("death %d: %d flights are left", i, len(left))
		}
		left[0].Done()
		f.use(t, Key{Inode: 1})
	}
	closeFile(t, f)
}

// A lack of memory is an error, and does not kill the process.
func TestNoMemory(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f, _ := open(t, dir+"/redo")
	defer closeFile(t, f)
	refused := 0
	for i := range 40 {
		c := f.Carry(Key{Inode: uint64(i)})
		if err := c.Reserve(); err != nil {
			refused++
			continue
		}
		c.Set(bytes.Repeat([]byte{'x'}, MaxCarry))
	}
	if refused == 0 || refused == 40 {
		t.Errorf("%d carries were refused", refused)
	}
	if _, _, err := Open(dir + "/another"); err == nil {
		t.Error("there was room for another")
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory has %v, %v", names, err)
	}
}
