package boltpages

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// makeFile writes a bbolt file like the event log's: buckets with values, small
// enough to be inline or large enough for branches and overflow.
func makeFile(t testing.TB, rows int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true, PageSize: minPageSize, FreelistType: bolt.FreelistMapType})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // so that both meta pages are of our making
		err = db.Update(func(tx *bolt.Tx) error {
			small, err := tx.CreateBucketIfNotExists([]byte("small"))
			if err != nil {
				return err
			}
			large, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err != nil {
				return err
			}
			for i := range rows {
				if err := large.Put(fmt.Appendf(nil, "key %04d", i), bytes.Repeat([]byte{byte(i)}, i*7%3000)); err != nil {
					return err
				}
			}
			return small.Put([]byte("k"), []byte("v"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var inUse int64
	if err := db.View(func(tx *bolt.Tx) error { inUse = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b[:inUse]
}

// check is what the log does before it lets bbolt see a file.
func check(b []byte) ([]Fault, error) {
	r := bytes.NewReader(b)
	meta, _, err := ReadMeta(r, r.Size())
	if err != nil {
		return nil, err
	}
	_, faults := Check(r, r.Size(), meta)
	return faults, nil
}

func TestSoundFiles(t *testing.T) {
	for _, rows := range []int{0, 1, 3, 50, 1000} {
		faults, err := check(makeFile(t, rows))
		if err != nil || len(faults) != 0 {
			t.Errorf("%d rows: %v, %v", rows, faults, err)
		}
	}
}

// page returns page id of a file with pages of minPageSize.
func page(b []byte, id uint64) []byte { return b[id*minPageSize:][:minPageSize] }

// victim is a sound file with what there is to damage.
type victim struct {
	original     []byte
	meta         Meta
	branch, leaf uint64 // of the large bucket; the branch is its root
}

func newVictim(t *testing.T) *victim {
	original := makeFile(t, 300)
	meta, _, err := ReadMeta(bytes.NewReader(original), int64(len(original)))
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{original: original, meta: meta}
	if e, err := parsePage(page(original, meta.root)); err != nil {
		t.Fatal(err)
	} else if large, err := e.at(0); err != nil || string(large.key) != "large" {
		t.Fatalf("%q, %v", large.key, err)
	} else {
		v.branch = order.Uint64(large.value)
	}
	if got := order.Uint16(page(original, v.branch)[8:]); got != flagBranch {
		t.Fatalf("the bucket's root isn't a branch: %x", got)
	}
	for v.leaf = v.branch; order.Uint16(page(original, v.leaf)[8:]) == flagBranch; {
		v.leaf = order.Uint64(page(original, v.leaf)[pageHeader+8:])
	}
	return v
}

// setMeta changes a field of the newest meta page and its checksum.
func (v *victim) setMeta(b []byte, at int, value uint64) {
	m := page(b, v.meta.TxID%2)[pageHeader:]
	order.PutUint64(m[at:], value)
	sum := fnv.New64a()
	sum.Write(m[:56])
	order.PutUint64(m[56:], sum.Sum64())
}

// damage is one fault, and the words that identify it in the report.
type damage struct {
	do   func(b []byte)
	want string
}

// damages are all that Check finds.
func (v *victim) damages() map[string]damage {
	return map[string]damage{
		"another page's number": {func(b []byte) { order.PutUint64(page(b, v.leaf), 3) }, "says that it is page 3"},
		"flags":                 {func(b []byte) { page(b, v.leaf)[8] = 3 }, "neither branch nor leaf"},
		"a child that is its parent": {
			func(b []byte) { order.PutUint64(page(b, v.branch)[pageHeader+8:], v.branch) }, "two parents"},
		"a child that is the root": {
			func(b []byte) { order.PutUint64(page(b, v.branch)[pageHeader+8:], v.meta.root) }, "two parents"},
		"a child that is a meta page": {
			func(b []byte) { order.PutUint64(page(b, v.branch)[pageHeader+8:], 1) }, "pages go from 2"},
		"a child beyond the end": {
			func(b []byte) { order.PutUint64(page(b, v.branch)[pageHeader+8:], 1<<40) }, "pages go from 2"},
		"overflow":        {func(b []byte) { order.PutUint32(page(b, v.leaf)[12:], 1<<31) }, "it spans"},
		"count":           {func(b []byte) { order.PutUint16(page(b, v.leaf)[10:], 0xffff) }, "too few for its 65535 elements"},
		"no children":     {func(b []byte) { order.PutUint16(page(b, v.branch)[10:], 0) }, "without children"},
		"an offset":       {func(b []byte) { order.PutUint32(page(b, v.leaf)[pageHeader+4:], 1<<30) }, "outside of the page"},
		"an offset of 0":  {func(b []byte) { order.PutUint32(page(b, v.leaf)[pageHeader+4:], 0) }, "outside of the page"},
		"a key's size":    {func(b []byte) { order.PutUint32(page(b, v.leaf)[pageHeader+8:], 1<<31) }, "a key has"},
		"a value's size":  {func(b []byte) { order.PutUint32(page(b, v.leaf)[pageHeader+12:], 1<<31) }, "outside of the page"},
		"an empty key":    {func(b []byte) { order.PutUint32(page(b, v.leaf)[pageHeader+8:], 0) }, "a key has 0 bytes"},
		"element's flags": {func(b []byte) { page(b, v.leaf)[pageHeader] = 8 }, "flags are 0x8"},
		"a nested bucket": {func(b []byte) { page(b, v.leaf)[pageHeader] = 1 }, "bucket inside a bucket"},
		"not a bucket":    {func(b []byte) { page(b, v.meta.root)[pageHeader] = 0 }, "not a bucket"},
		"key order": {func(b []byte) {
			copy(page(b, v.leaf)[bytes.Index(page(b, v.leaf), []byte("key 0001")):], "key 0000")
		}, "does not follow"},
		"a key of the next page": {func(b []byte) {
			copy(page(b, v.leaf)[bytes.Index(page(b, v.leaf), []byte("key 0001")):], "key 9999")
		}, "belongs behind"},
		"inline bucket": {func(b []byte) {
			p := page(b, v.meta.root)
			p[bytes.Index(p, []byte("small"))+5+16+8] = flagBranch
		}, `bucket "small" within the page: it is`},
		"a free list":                  {func(b []byte) { v.setMeta(b, 32, v.leaf) }, "free list"},
		"more pages than the file has": {func(b []byte) { v.setMeta(b, 40, v.meta.Pages+1) }, "truncated"},
	}
}

// TestFaults damages one thing after the other and looks for the words.
func TestFaults(t *testing.T) {
	v := newVictim(t)
	for name, c := range v.damages() {
		b := bytes.Clone(v.original)
		c.do(b)
		faults, err := check(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.ContainsFunc(faults, func(f Fault) bool { return strings.Contains(f.String(), c.want) }) {
			t.Errorf("%s: %v; want %q", name, faults, c.want)
		}
	}
}

// TestMeta: one damaged meta page is a warning, two are the end.
func TestMeta(t *testing.T) {
	original := makeFile(t, 10)
	read := func(b []byte) (Meta, error, error) { return ReadMeta(bytes.NewReader(b), int64(len(b))) }
	newest, other, err := read(original)
	if err != nil || other != nil {
		t.Fatal(other, err)
	}
	for id := range uint64(2) {
		b := bytes.Clone(original)
		page(b, id)[pageHeader+20] ^= 1
		m, other, err := read(b)
		if err != nil || other == nil || !strings.Contains(other.Error(), fmt.Sprintf("meta page %d", id)) {
			t.Errorf("meta page %d is damaged: %v, %v", id, other, err)
		}
		if want := newest.TxID%2 != id; (m.TxID == newest.TxID) != want {
			t.Errorf("meta page %d is damaged: transaction %d is used, the newest is %d", id, m.TxID, newest.TxID)
		}
		page(b, 1-id)[pageHeader+20] ^= 1
		if _, _, err := read(b); !errors.Is(err, ErrNotBolt) {
			t.Errorf("both are damaged: %v", err)
		}
	}
	r := bytes.NewReader(original)
	for txid := newest.TxID - 1; txid <= newest.TxID; txid++ {
		if m, err := ReadMetaOf(r, r.Size(), txid); err != nil || m.TxID != txid {
			t.Errorf("transaction %d: %+v, %v", txid, m, err)
		}
	}
	if _, err := ReadMetaOf(r, r.Size(), newest.TxID-2); !errors.Is(err, ErrOverwritten) {
		t.Errorf("an old transaction: %v", err)
	}
}

// FuzzCheck tests the promise of this package: no bytes make it panic, and when it
// finds no fault, bbolt can open the file, walk all of it, and write to it.
// Otherwise bbolt's panic ends the test.
func FuzzCheck(f *testing.F) {
	original := makeFile(f, 40)
	f.Add(uint32(0), byte(0), uint32(0), uint32(0))
	f.Add(uint32(3*minPageSize+8), byte(1), uint32(9), uint32(2))
	f.Add(uint32(len(original)-1), byte(0xff), uint32(5*minPageSize), uint32(0xffff))
	f.Fuzz(func(t *testing.T, at uint32, xor byte, word uint32, value uint32) {
		b := bytes.Clone(original)
		b[at%uint32(len(b))] ^= xor
		order.PutUint32(b[word%uint32(len(b)-4):], value)
		if faults, err := check(b); err != nil || len(faults) != 0 {
			return
		}
		useWithBolt(t, b)
	})
}

func useWithBolt(t *testing.T, b []byte) {
	path := filepath.Join(t.TempDir(), "file.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, NoSync: true})
	if err != nil {
		t.Fatalf("no fault was found, but bbolt says: %v", err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		if err := tx.ForEach(func(_ []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error { bytes.Compare(k, v); return nil })
		}); err != nil {
			return err
		}
		new, err := tx.CreateBucketIfNotExists([]byte("new"))
		if err != nil {
			return err
		}
		return new.Put([]byte("k"), []byte("v"))
	})
	if err != nil {
		t.Fatalf("no fault was found, but bbolt says: %v", err)
	}
}
