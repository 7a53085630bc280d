package codec

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/fault"
	"github.com/stele-runtime/stele/actors/id"
	"github.com/stele-runtime/stele/actors/sandbox"
	pb "github.com/stele-runtime/stele/proto/event/v1"
)

// TestRoundTrip: every event is read back as it was written.
func TestRoundTrip(t *testing.T) {
	for _, s := range suites() {
		for _, event := range s.events() {
			t.Run(s.current[event], func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					v := reflect.New(event).Elem()
					draw(t, v, event.Name(), rapid.String())
					encoded, err := s.encode(v.Interface())
					if err != nil {
						t.Fatal(err)
					}
					decoded, err := s.decode(encoded)
					if err != nil {
						t.Fatal(err)
					}
					if !reflect.DeepEqual(decoded, v.Interface()) {
						t.Fatalf("read back as\n%+v\nwant\n%+v", decoded, v.Interface())
					}
				})
			})
		}
	}
}

// TestEncodeTakesAnyBytes: a plugin may print invalid UTF-8; its failure is stored all
// the same, and the event itself does not change.
func TestEncodeTakesAnyBytes(t *testing.T) {
	bytes := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) })
	for _, s := range suites() {
		for _, event := range s.events() {
			t.Run(s.current[event], func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					v := reflect.New(event).Elem()
					draw(t, v, event.Name(), bytes)
					encoded, err := s.encode(v.Interface())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.decode(encoded); err != nil {
						t.Fatal(err)
					}
				})
			})
		}
	}
}

func TestInvalidTextIsReplaced(t *testing.T) {
	command := []string{"echo", "a\xffb"}
	encoded, err := EncodeContainer(container.ExecRequested{Exec: "x\xfe", Command: command})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeContainer(encoded.Type, encoded.Schema, encoded.Payload)
	want := container.ExecRequested{Exec: "x\uFFFD", Command: []string{"echo", "a\uFFFDb"}}
	if err != nil || !reflect.DeepEqual(got, container.Event(want)) {
		t.Errorf("read back as %+v, %v, want %+v", got, err, want)
	}
	if command[1] != "a\xffb" {
		t.Errorf("encoding changed the event's own command to %q", command)
	}

	failed, err := EncodeSandbox(sandbox.NetworkAttachFailed{Fault: fault.Fault{Kind: "of tomorrow", Reason: "bad \xc3("}})
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSandbox(failed.Type, failed.Schema, failed.Payload)
	if want := (sandbox.NetworkAttachFailed{Fault: fault.Fault{Kind: "of tomorrow", Reason: "bad \uFFFD("}}); err != nil || back != sandbox.Event(want) {
		t.Errorf("read back as %+v, %v, want %+v", back, err, want)
	}
}

// TestTimesOffTheCalendar: a state that holds one could not be shown.
func TestTimesOffTheCalendar(t *testing.T) {
	for name, m := range map[string]proto.Message{
		"container.ContainerStarted.v1": &pb.ContainerStarted{At: &timestamppb.Timestamp{Seconds: 1 << 60}},
		"container.KillFailed.v1":       &pb.KillFailed{RetryAt: &timestamppb.Timestamp{Nanos: -1}},
		"container.ExecRequested.v1":    &pb.ExecRequested{Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}},
	} {
		payload, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var bad *PayloadError
		if _, err := DecodeContainer(name, Schema, payload); !errors.As(err, &bad) || bad.Type != name {
			t.Errorf("decode %s: got %v, want a PayloadError", name, err)
		}
	}
	encoded, err := EncodeContainer(container.ContainerStarted{At: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeContainer(encoded.Type, encoded.Schema, encoded.Payload)
	if err != nil || got != container.Event(container.ContainerStarted{At: latest}) {
		t.Errorf("a time in the year 20000 is read back as %+v, %v, want the latest", got, err)
	}
}

func TestRecordsThatNobodyCanRead(t *testing.T) {
	known, err := EncodeContainer(container.ExecEnded{Exec: "x", Code: 3})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Encoded{
		"later version":  {"container.ExecEnded.v99", Schema, known.Payload},
		"unknown event":  {"container.Teleported.v1", Schema, nil},
		"other machine":  {"sandbox.SandboxReady.v1", Schema, nil},
		"unknown schema": {known.Type, Schema + 1, known.Payload},
		"no schema":      {known.Type, 0, known.Payload},
		"no type":        {"", Schema, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeContainer(e.Type, e.Schema, e.Payload)
			var unknown *UnknownTypeError
			if !errors.As(err, &unknown) || *unknown != (UnknownTypeError{e.Type, e.Schema}) {
				t.Errorf("got %v, want an UnknownTypeError that names %q and %d", err, e.Type, e.Schema)
			}
		})
	}
	for name, payload := range map[string][]byte{
		"cut":       known.Payload[:len(known.Payload)-1],
		"not UTF-8": {0x0a, 0x01, 0xff},
		"garbage":   []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeContainer(known.Type, Schema, payload)
			var bad *PayloadError
			if !errors.As(err, &bad) || bad.Type != known.Type || bad.Unwrap() == nil {
				t.Errorf("got %v, want a PayloadError that names %q and holds the cause", err, known.Type)
			}
		})
	}
}

func TestEncodeRefusesWhatIsNoEvent(t *testing.T) {
	if e, err := EncodeSandbox(nil); err == nil {
		t.Errorf("nil is encoded as %+v", e)
	}
}

// TestVersions: of two rows for one event, both read and the later one writes.
func TestVersions(t *testing.T) {
	first := message[sandbox.Event]("sandbox.HolderStarted.v1",
		func(sandbox.HolderStarted) *pb.ContainerAdded { t.Error("the old row wrote"); return nil },
		func(m *pb.ContainerAdded) sandbox.HolderStarted {
			return sandbox.HolderStarted{PID: len(m.GetContainer())}
		})
	second := message[sandbox.Event]("sandbox.HolderStarted.v2",
		func(e sandbox.HolderStarted) *pb.HolderStarted { return &pb.HolderStarted{Pid: int64(e.PID)} },
		func(m *pb.HolderStarted) sandbox.HolderStarted { return sandbox.HolderStarted{PID: int(m.GetPid())} })
	table := newTable(first, second)

	old, err := proto.Marshal(&pb.ContainerAdded{Container: "four"})
	if err != nil {
		t.Fatal(err)
	}
	was, err := table.decode("sandbox.HolderStarted.v1", Schema, old)
	if want := (sandbox.HolderStarted{PID: 4}); err != nil || was != sandbox.Event(want) {
		t.Fatalf("the first version is read as %+v, %v, want %+v", was, err, want)
	}
	now, err := table.encode(was)
	if err != nil || now.Type != "sandbox.HolderStarted.v2" {
		t.Fatalf("written as %q, %v, want the second version", now.Type, err)
	}
	if again, err := table.decode(now.Type, now.Schema, now.Payload); err != nil || again != was {
		t.Errorf("read back as %+v, %v, want %+v", again, err, was)
	}
}

// TestFieldsOfLaterVersions: a daemon that was downgraded reads on.
func TestFieldsOfLaterVersions(t *testing.T) {
	encoded, err := EncodeSandbox(sandbox.ContainerAdded{Container: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	later := append(encoded.Payload, 0xa2, 0x06, 0x01, '!') // field 100, one byte
	got, err := DecodeSandbox(encoded.Type, encoded.Schema, later)
	if want := (sandbox.ContainerAdded{Container: id.Container("c1")}); err != nil || got != sandbox.Event(want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// FuzzDecode: whatever the log holds, a decoder returns; and what it read can be
// written again, and shown.
func FuzzDecode(f *testing.F) {
	machines := suites()
	for _, s := range machines {
		for _, name := range s.rows {
			e, err := goldenOf(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(name, e.Payload)
			f.Add(name, e.Payload[:len(e.Payload)/2])
		}
	}
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		for _, s := range machines {
			event, err := s.decode(Encoded{name, Schema, payload})
			if err != nil {
				continue
			}
			if _, err := json.Marshal(event); err != nil {
				t.Errorf("%+v cannot be shown: %v", event, err)
			}
			encoded, err := s.encode(event)
			if err != nil {
				t.Fatalf("%+v cannot be written again: %v", event, err)
			}
			again, err := s.decode(encoded)
			if err != nil || !reflect.DeepEqual(again, event) {
				t.Errorf("written again and read back as\n%+v, %v, want\n%+v", again, err, event)
			}
		}
		d, err := Describe(name, Schema, payload, Configs, Environment)
		if err != nil {
			return
		}
		for _, field := range d.Fields {
			if !utf8.ValidString(field.Value) || strings.ContainsFunc(field.Value, isControl) {
				t.Errorf("%s is not safe to print: %q", field.Name, field.Value)
			}
		}
	})
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 }

// draw fills an event or a state with arbitrary values as a decoder makes them: times in UTC,
// and nothing empty that could be absent.
func draw(t *rapid.T, v reflect.Value, name string, text *rapid.Generator[string]) {
	switch v.Interface().(type) {
	case time.Time:
		if rapid.Bool().Draw(t, name+" is set") {
			seconds := rapid.Int64Range(time.Time{}.Unix(), latest.Unix()).Draw(t, name)
			v.Set(reflect.ValueOf(at(stamp(time.Unix(seconds, rapid.Int64Range(0, 999_999_999).Draw(t, name)).UTC()))))
		}
		return
	case []byte:
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, name); len(b) > 0 {
			v.SetBytes(b)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			draw(t, v.Field(i), v.Type().Field(i).Name, text)
		}
	case reflect.Slice:
		if n := rapid.IntRange(0, 4).Draw(t, name); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				draw(t, v.Index(i), name, text)
			}
		}
	case reflect.Map:
		if n := rapid.IntRange(0, 4).Draw(t, name); n > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				draw(t, key, name+" key", text)
				draw(t, value, name, text)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.String:
		v.SetString(text.Draw(t, name))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, name))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, name))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, name)))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, name))
	default:
		t.Fatalf("%s is a %s: teach draw", name, v.Type())
	}
}
