package redact

import (
	"errors"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/host"
	"github.com/stele-runtime/stele/actors/image"
	"github.com/stele-runtime/stele/actors/sandbox"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "",
		"no address: a/b?x=secret":             "no address: a/b?x=secret",
		"https://lab.test/v2/app":              "https://lab.test/v2/app",
		"docker://lab.test/app:v1@sha256:cafe": "docker://lab.test/app:v1@sha256:cafe",
		"from https://me:secret@lab.test/a/b?sign=secret&x=1#secret failed (EOF), again": "from https://[redacted]@lab.test/a/b?[redacted] failed (EOF), again",
		"https://lab.test/a%2Fb?secret":                              "https://lab.test/a%2Fb?[redacted]",
		"https://lab.test#secret":                                    "https://lab.test?[redacted]",
		"https://secret@lab.test:5000":                               "https://[redacted]@lab.test:5000",
		"https://me:sec@ret@lab.test/":                               "https://[redacted]@lab.test/",
		`both "https://a.test/?secret" and 'https://b.test/?secret'`: `both "https://a.test/?[redacted]" and 'https://b.test/?[redacted]'`,
		"https://%zz/secret":                                         "[redacted address]",
		"a password with a slash: https://me:sec/ret@lab.test/x":     "a password with a slash: [redacted address]",
		"https://[redacted]@lab.test/a?[redacted]":                   "https://[redacted]@lab.test/a?[redacted]",
	} {
		if got := Text(text); got != want {
			t.Errorf("%s\nis shown as\n%s\nwant\n%s", text, got, want)
		}
	}
}

func TestKnown(t *testing.T) {
	known := Known("hunter2", "hunter2 and more", `q"uo te`, "")
	for text, want := range map[string]string{
		"hunter2":                      "[redacted]",
		"hunter2 and more":             "[redacted]",
		"x=hunter2+and+more":           "x=[redacted]",
		"x=hunter2%20and%20more":       "x=[redacted]",
		strconv.Quote(`a q"uo te`):     `"a [redacted]"`,
		"https://me:hunter2@lab.test/": "https://[redacted]@lab.test/",
		"https://lab.test/hunter2/x":   "https://lab.test/[redacted]/x",
		"nothing":                      "nothing",
	} {
		if got := known.Text(text); got != want {
			t.Errorf("%s\nis shown as\n%s\nwant\n%s", text, got, want)
		}
	}
	if got := (Secrets{}).Text("https://a@b/"); got != "https://[redacted]@b/" {
		t.Errorf("without secrets an address is %s", got)
	}
}

func TestAttr(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: Attr}))
	logger.Info("got https://me:secret@lab.test/", "error", errors.New("get https://lab.test/?secret: EOF"), "text", "https://lab.test/#secret", "count", 3)
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, "lab.test/?[redacted] EOF") || !strings.Contains(text, "count=3") {
		t.Errorf("logged is %s", text)
	}
}

func FuzzKnown(f *testing.F) {
	f.Add("the registry said hunter2", "hunter2")
	f.Add("https://me:hunter2@lab.test/?hunter2", "hunter2")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if len(secret) < 4 || strings.Contains(Mark, secret) || strings.Contains(hiddenAddress, secret) {
			return
		}
		for _, spelling := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
			if strings.Contains(Mark+hiddenAddress, spelling) {
				return
			}
			if shown := Known(secret).Text("said: " + spelling); strings.Contains(shown, spelling) {
				t.Errorf("%q is shown in %q", spelling, shown)
			}
		}
		if once := Text(text); Text(once) != once {
			t.Errorf("%q is shown as %q, and that as %q", text, once, Text(once))
		}
	})
}

// Every byte slice of a state is a configuration, and none is shown.
func TestState(t *testing.T) {
	type deep struct {
		Inode  uint64
		Config []byte
	}
	shown, err := State(map[string]any{"ID": "web", "Config": []byte("x"), "Request": deep{1<<63 + 1, []byte("x")}, "All": []deep{{2, []byte("x")}}})
	if want := `{"All":[{"Inode":2}],"ID":"web","Request":{"Inode":9223372036854775809}}`; err != nil || string(shown) != want {
		t.Errorf("shown is %s, %v\nwant %s", shown, err, want)
	}
	for _, state := range []reflect.Type{
		reflect.TypeFor[sandbox.State](), reflect.TypeFor[container.State](), reflect.TypeFor[image.State](), reflect.TypeFor[host.State](),
	} {
		for _, name := range byteFields(state) {
			if !slices.Contains(configurations, name) {
				t.Errorf("%v has the bytes %s, which are shown", state, name)
			}
		}
	}
	if found := byteFields(reflect.TypeFor[container.State]()); len(found) != 4 {
		t.Errorf("a container's state has the bytes %v, want two configurations and two parts of one", found)
	}
}

// byteFields are the names of a type's fields, at any depth, that are byte slices.
func byteFields(of reflect.Type) (names []string) {
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
		return byteFields(of.Elem())
	case reflect.Struct:
		for f := range of.Fields() {
			if f.Type == reflect.TypeFor[[]byte]() {
				names = append(names, f.Name)
			} else if f.IsExported() {
				names = append(names, byteFields(f.Type)...)
			}
		}
	}
	return names
}

func TestAdjustment(t *testing.T) {
	const whole = `{"env":[{"key":"TOKEN","value":"secret"},{"key":"-OLD"}],"hooks":{"poststop":[{"path":"/bin/x","env":["A=secret"]}]},"mounts":[{"destination":"/x"}]}`
	const want = `{"env":[{"key":"TOKEN","value":"[redacted]"},{"key":"-OLD","value":"[redacted]"}],"hooks":{"poststop":[{"env":["A=[redacted]"],"path":"/bin/x"}]},"mounts":[{"destination":"/x"}]}`
	if got := Adjustment(whole); got != want {
		t.Errorf("%s\nis shown as\n%s\nwant\n%s", whole, got, want)
	}
	if got := Adjustment("secret"); got != `"[redacted]"` {
		t.Errorf("what is no adjustment is shown as %s", got)
	}
	shown, err := State(container.State{Creation: container.Creation{Adjusted: container.Adjusted{Plugins: []string{"10-a"}, JSON: whole}}})
	if err != nil || strings.Contains(string(shown), "secret") || !strings.Contains(string(shown), `"JSON":`+want) {
		t.Errorf("a state is shown as %s, %v", shown, err)
	}
}

func TestEnvironment(t *testing.T) {
	c := &runtimeapi.ContainerConfig{Envs: []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("secret")}}}
	Environment(c)
	if c.GetEnvs()[0].GetKey() != "PASSWORD" || c.GetEnvs()[0].GetValue() != nil {
		t.Errorf("the environment is %v", c.GetEnvs())
	}
}

func TestRuntimeSpec(t *testing.T) {
	for spec, want := range map[string]string{
		`{"ociVersion":"1.2.0","process":{"env":["PATH=/bin","TOKEN=secret=1","EMPTY"],"user":{"uid":4294967294}},"hooks":{"prestart":[{"env":["A=secret"]}]}}`: `{"ociVersion":"1.2.0","process":{"env":["PATH=[redacted]","TOKEN=[redacted]","EMPTY=[redacted]"],"user":{"uid":4294967294}}}`,
		`{"linux":{}}`: `{"linux":{}}`,
	} {
		if got, err := RuntimeSpec([]byte(spec)); err != nil || string(got) != want {
			t.Errorf("%s\nis shown as\n%s, %v\nwant\n%s", spec, got, err, want)
		}
	}
	if _, err := RuntimeSpec([]byte("{")); err == nil {
		t.Error("half a spec is shown")
	}
}

func TestImageSpec(t *testing.T) {
	for spec, want := range map[string]string{
		`{"os":"linux","config":{"Env":["A=secret","B"],"Cmd":["x"]},"history":[{"created_by":"ENV A=secret"}],"size":4294967297}`: `{"config":{"Cmd":["x"],"Env":["A=[redacted]","B=[redacted]"]},"os":"linux","size":4294967297}`,
		`{"config":{"Env":"secret"}}`: `{"config":{}}`,
		`{}`:                          `{}`,
	} {
		if got, err := ImageSpec([]byte(spec)); err != nil || string(got) != want {
			t.Errorf("%s\nis shown as\n%s, %v\nwant\n%s", spec, got, err, want)
		}
	}
	if _, err := ImageSpec([]byte("[")); err == nil {
		t.Error("half a configuration is shown")
	}
}
