package boltlog

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/eventlog"
)

var update = flag.Bool("update", false, "write the golden files anew; only for a format that was never released")

// goldenRecord has a different value in every field.
func goldenRecord() eventlog.Record {
	return eventlog.Record{
		Sequence:  0x0102030405060708,
		Stream:    "container/4f1c",
		Version:   300,
		Time:      time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC),
		SinceBoot: 90 * time.Minute,
		BootID:    "0cf7d2de-8a0e-4c4e-9d4f-0b8a3c1e5f60",
		Entry: eventlog.Entry{
			Type:    "container.Started.v1",
			Schema:  1,
			Cause:   eventlog.Cause{Command: "container.Start", Event: 0x010203, Trace: "4bf92f3577b34da6"},
			Payload: []byte{0x08, 0x96, 0x01, 0x00, 0xff},
		},
	}
}

// goldenHead has a different value in every field.
func goldenHead() head {
	return head{
		Checkpoint: eventlog.Checkpoint{Sequence: 70000, Schema: 2}, edition: 1 << 40,
		base: 3, overlay: 4, loose: 5, tally: tally{pairs: 600, sum: 0x0102030405060708},
	}
}

// TestGoldenBytes pins the formats: logs in the field have these bytes.
func TestGoldenBytes(t *testing.T) {
	record := goldenRecord()
	head := goldenHead()
	value := encodeEntry("pods", "sandbox/1", entryValue, []byte("a state"))
	removal := goldenRemoval()
	oneGap := gap{eventlog.GapError{Removal: removal, Stream: "container/1", From: 7, Through: 12}}
	base := eventlog.Base{Version: 6, Sequence: 70, Schema: 2, State: []byte("a state"), Removed: removal}
	thin := removing{rule: "settled", at: removal.Until, sequences: []eventlog.Sequence{5, 6, 300}}
	trim := removing{rule: "age", at: removal.Until, stream: "node", through: 300}
	for name, got := range map[string][]byte{
		"hole_v2":             hole{removal}.value(),
		"gap_v1":              oneGap.value(),
		"base_v2":             encodeBase("node", base),
		"removing_thin_v1":    thin.value(),
		"removing_prefix_v1":  trim.value(),
		"usage_v1":            usage{bytes: 1 << 20, removed: removal.Rules}.value(),
		"format_3":            formatValue(3),
		"record_v1":           appendRecord(nil, &record),
		"checkpoint_head_v1":  encodeHead("pods", head),
		"checkpoint_entry_v1": value.value,
	} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if dump := hex.Dump(got); dump != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, dump, want)
		}
	}
	var d recordDecoder
	if got, err := d.decode(appendRecord(nil, &record)); err != nil || !reflect.DeepEqual(got, record) {
		t.Errorf("record: got %+v, %v", got, err)
	}
	if got, err := decodeHead("pods", encodeHead("pods", head)); err != nil || got != head {
		t.Errorf("head: got %+v, %v", got, err)
	}
	if got, err := checkEntry("pods", []byte("sandbox/1"), value.value); err != nil || !reflect.DeepEqual(got, value) {
		t.Errorf("entry: got %+v, %v", got, err)
	}
}

func goldenRemoval() eventlog.Removal {
	return eventlog.Removal{
		First: 65, Last: 70, Since: time.Unix(1_800_000_000, 1).UTC(), Until: time.Unix(1_800_003_600, 2).UTC(),
		Rules: eventlog.Rules{"age": 2, "settled": 4},
	}
}

// TestRemovalRoundTrip reads what is written of removals; any flipped bit is found.
func TestRemovalRoundTrip(t *testing.T) {
	want := goldenRemoval()
	key := recordKey(want.First)
	if got, err := parseHole(key, hole{want}.value()); err != nil || !reflect.DeepEqual(got.Removal, want) {
		t.Errorf("hole: %+v, %v", got, err)
	}
	g := gap{eventlog.GapError{Removal: want, Stream: "container/1", From: 7, Through: 12}}
	if got, err := parseGap(g.key(), g.value()); err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("gap: %+v, %v", got, err)
	}
	base := eventlog.Base{Version: 6, Sequence: 70, Schema: 2, State: []byte("a state"), Removed: want}
	if got, err := decodeBase("node", encodeBase("node", base)); err != nil || !reflect.DeepEqual(got, base) {
		t.Errorf("base: %+v, %v", got, err)
	}
	for _, r := range []removing{
		{rule: "settled", at: want.Until, sequences: []eventlog.Sequence{5, 6, 300}},
		{rule: "age", at: want.Until, stream: "node", through: 300},
		{rule: "age", at: want.Until, stream: "node", through: 300, whole: true},
	} {
		body, err := checkCRC(r.value())
		p := parser{b: body}
		if got := parseRemoving(&p); err != nil || p.end() != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("removing: %+v, %v, want %+v", got, err, r)
		}
	}
	for at := range len(key) * 8 {
		flipped := bytes.Clone(key)
		flipped[at/8] ^= 1 << (at % 8)
		if _, err := parseHole(flipped, hole{want}.value()); err == nil {
			t.Errorf("a hole under the key %x", flipped)
		}
	}
	for name, parse := range map[string]func([]byte) error{
		"hole": func(b []byte) error { _, err := parseHole(key, b); return err },
		"gap":  func(b []byte) error { _, err := parseGap(g.key(), b); return err },
		"base": func(b []byte) error { _, err := decodeBase("node", b); return err },
	} {
		whole := map[string][]byte{"hole": hole{want}.value(), "gap": g.value(), "base": encodeBase("node", base)}[name]
		for n := range whole {
			if parse(whole[:n]) == nil {
				t.Errorf("%s: %d bytes of %d are enough", name, n, len(whole))
			}
			flipped := bytes.Clone(whole)
			flipped[n] ^= 1
			if parse(flipped) == nil {
				t.Errorf("%s: byte %d does not matter", name, n)
			}
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	var d recordDecoder // one for all, as in a replay
	name := rapid.StringN(0, -1, eventlog.MaxName)
	rapid.Check(t, func(t *rapid.T) {
		want := eventlog.Record{
			Sequence:  eventlog.Sequence(rapid.Uint64().Draw(t, "sequence")),
			Stream:    eventlog.Stream(name.Draw(t, "stream")),
			Version:   eventlog.Version(rapid.Uint64().Draw(t, "version")),
			Time:      time.Unix(0, rapid.Int64().Draw(t, "time")).UTC(),
			SinceBoot: time.Duration(rapid.Int64Min(0).Draw(t, "since boot")),
			BootID:    name.Draw(t, "boot id"),
			Entry: eventlog.Entry{
				Type:    name.Draw(t, "type"),
				Schema:  rapid.Uint32().Draw(t, "schema"),
				Cause:   eventlog.Cause{Command: name.Draw(t, "command"), Event: eventlog.Sequence(rapid.Uint64().Draw(t, "event")), Trace: name.Draw(t, "trace")},
				Payload: rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "payload"),
			},
		}
		b := appendRecord(nil, &want)
		if most := recordOverhead(&want) + len(want.Payload); len(b) > most {
			t.Fatalf("%d bytes, but only %d were foreseen", len(b), most)
		}
		got, err := d.decode(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
		// Whatever is changed, the CRC tells.
		i := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		b[i/8] ^= 1 << (i % 8)
		if _, err := d.decode(b); err == nil {
			t.Fatalf("bit %d is flipped and nobody noticed", i)
		}
		n := rapid.IntRange(0, len(b)-1).Draw(t, "length")
		if _, err := d.decode(b[:n]); err == nil {
			t.Fatalf("cut to %d bytes and nobody noticed", n)
		}
	})
}

// withCRC gives arbitrary bytes a correct CRC, as a bug or malice would, so that
// the decoder must check them.
func withCRC(body []byte) []byte { return appendCRC(bytes.Clone(body), 0) }

func TestDecodeRefuses(t *testing.T) {
	record := goldenRecord()
	good := appendRecord(nil, &record)
	body := good[:len(good)-crcSize]
	boot := bytes.Index(body, []byte(record.BootID)) - 1 // where its length is
	replace := func(at, n int, by ...byte) []byte {
		return withCRC(bytes.Join([][]byte{body[:at], by, body[at+n:]}, nil))
	}
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x07} // MaxInt32
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":            {nil, "only 0 bytes"},
		"a CRC of nothing":   {withCRC(nil), "format 0"},
		"another format":     {replace(0, 1, 2), "format 2"},
		"a long form":        {replace(boot, 1, 0xa4, 0x00), errNumber.Error()},
		"eleven-byte number": {replace(boot, 1, bytes.Repeat([]byte{0x80}, 11)...), errNumber.Error()},
		"a huge length":      {replace(boot, 1, huge...), errTooLong.Error()},
		"a larger number":    {replace(boot, 1, 0xff, 0xff, 0xff, 0xff, 0x0f), errNumber.Error()},
		"too long a name":    {replace(boot, 1, 0x80, 0x02), errTooLong.Error()},
		"the end is missing": {withCRC(body[:len(body)-1]), errShort.Error()},
		"a byte too many":    {withCRC(append(bytes.Clone(body), 0)), errRemainder.Error()},
		"a flipped bit":      {append(append([]byte{}, good[0]^1), good[1:]...), "CRC-32C"},
	} {
		var d recordDecoder
		if _, err := d.decode(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestDecoderForgets: names that occur once don't fill the memory.
func TestDecoderForgets(t *testing.T) {
	var d recordDecoder
	for i := range 3 * maxShared {
		d.share(fmt.Append(nil, i))
	}
	if n := len(d.shared); n > maxShared {
		t.Errorf("the decoder keeps %d names", n)
	}
}

// FuzzDecodeRecord: no bytes make the decoder panic or allocate much, and what
// it accepts is exactly what appendRecord writes.
func FuzzDecodeRecord(f *testing.F) {
	record := goldenRecord()
	good := appendRecord(nil, &record)
	f.Add(good[:len(good)-crcSize])
	f.Add([]byte{})
	f.Add([]byte{recordFormat})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Add(append(bytes.Clone(good[:20]), bytes.Repeat([]byte{0}, 20)...))
	f.Fuzz(func(t *testing.T, body []byte) {
		var d recordDecoder
		if _, err := d.decode(body); err == nil && len(body) == 0 {
			t.Fatal("nothing was accepted")
		}
		b := withCRC(body)
		r, err := d.decode(b)
		if err != nil {
			return
		}
		if again := appendRecord(nil, &r); !bytes.Equal(again, b) {
			t.Fatalf("accepted %x\nencodes  %x", b, again)
		}
	})
}

// FuzzDecodeHead is FuzzDecodeRecord for the heads of checkpoints.
func FuzzDecodeHead(f *testing.F) {
	good := encodeHead("pods", goldenHead())
	f.Add(good[:len(good)-crcSize])
	f.Add([]byte{headFormat, 4, 'p', 'o', 'd', 's', 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07})
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := decodeHead("pods", withCRC(body))
		if err != nil {
			return
		}
		if again := encodeHead("pods", h); !bytes.Equal(again, withCRC(body)) {
			t.Fatalf("accepted %x\nencodes  %x", withCRC(body), again)
		}
	})
}
