package machinetest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

var update = flag.Bool("update", false, "rewrite the golden traces in testdata with what the machines do now")

// Traces runs every testdata/*.txt of the package under test and compares the outcome
// with the file. A trace consists of
//
//	# a comment
//	kubelet: Run ID=p1 Handler=runc      a command whose caller is called kubelet
//	AttachNetworkDone Err="no address"   a command that nobody waits for
//	wait 10s                             time passes
//	restart                              the daemon ends and replays its log
//	settled                              which events so far leave no trace
//
// at the beginning of a line, each followed by its consequences, indented by a tab: the
// events, in order; the state and what it owes; the refusal, or the answers that callers
// get at that point. A field At that is not mentioned is the present.
//
// It also fails if no trace shows some command, event or effect.
func Traces[S, C, E any, F Effect](t *testing.T, m Machine[S, C, E, F]) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no traces in testdata (%v)", err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := &runner[S, C, E, F]{life: Life[S, C, E, F]{Machine: m}, now: Epoch, seen: seen}
			got := r.run(t, string(want))
			if got == string(want) {
				return
			}
			if !*update {
				t.Fatalf("%s differs (-update rewrites it):\n%s", path, diff(lines(string(want)), lines(got)))
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, sum := range []struct {
		what, method string
		all          []string
	}{
		{"command", "command", typeNames(m.Commands)}, {"event", "event", typeNames(m.Events)}, {"effect", "Failed", typeNames(m.Effects)},
	} {
		for _, name := range missing(sealed(t, sum.method), sum.all) {
			t.Errorf("the Machine of this test doesn't list the %s %s", sum.what, name)
		}
		for _, name := range sum.all {
			if !seen[sum.what+" "+name] {
				t.Errorf("no trace shows the %s %s: add it to one in testdata, or write one", sum.what, name)
			}
		}
	}
}

func lines(text string) []string { return strings.Split(text, "\n") }

// caller is somebody who waits for an answer.
type caller[S, E any] struct {
	name   string
	answer Answer[S, E]
}

type runner[S, C, E any, F Effect] struct {
	life    Life[S, C, E, F]
	now     time.Time
	callers []caller[S, E]
	seen    map[string]bool
	out     strings.Builder
}

func (r *runner[S, C, E, F]) say(format string, args ...any) {
	fmt.Fprintf(&r.out, "\t"+format+"\n", args...)
}

// run executes a trace and returns it with the actual consequences.
func (r *runner[S, C, E, F]) run(t *testing.T, text string) string {
	for i, line := range lines(strings.TrimSuffix(text, "\n")) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		r.out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.line(t, line); err != nil {
			t.Fatalf("line %d: %s: %v", i+1, line, err)
		}
	}
	for _, c := range r.callers {
		t.Errorf("%s has no answer at the end of the trace", c.name)
	}
	return r.out.String()
}

var callerName = regexp.MustCompile(`^[a-z][a-z0-9 -]*: `)

func (r *runner[S, C, E, F]) line(t *testing.T, line string) error {
	name := strings.TrimSuffix(callerName.FindString(line), ": ")
	args := words(strings.TrimPrefix(line, name+": "))
	switch {
	case args[0] == "wait" && len(args) == 2:
		d, err := time.ParseDuration(args[1])
		r.now = r.now.Add(d)
		return err
	case args[0] == "restart":
		r.callers = nil // The daemon's end ends their calls.
		r.life.Replay(t)
		r.where()
		return nil
	case args[0] == "settled" && len(args) == 1:
		for _, n := range r.life.noTrace(t) {
			r.say("no trace: %s", Describe(n.event))
		}
		return nil
	}
	c, err := r.command(args)
	if err != nil {
		return err
	}
	r.seen["command "+args[0]] = true
	r.do(t, name, c)
	return nil
}

func (r *runner[S, C, E, F]) command(args []string) (C, error) {
	for _, c := range r.life.Machine.Commands {
		if reflect.TypeOf(c).Name() != args[0] {
			continue
		}
		v := reflect.New(reflect.TypeOf(c)).Elem()
		err := parse(v, args[1:], r.now)
		return v.Interface().(C), err
	}
	var none C
	return none, fmt.Errorf("there is no command %s", args[0])
}

func (r *runner[S, C, E, F]) do(t *testing.T, name string, c C) {
	steps, refused := r.life.Do(t, c)
	if refused != nil {
		r.say("refused: %s", describeError(refused))
		return
	}
	r.life.Replay(t)
	for _, step := range steps {
		r.say("%s", Describe(step.Event))
		r.seen["event "+reflect.TypeOf(step.Event).Name()] = true
	}
	r.where()
	for _, step := range steps {
		r.callers = slices.DeleteFunc(r.callers, func(c caller[S, E]) bool { return r.answered(c, step) })
	}
	if name == "" {
		return
	}
	asker := caller[S, E]{name, r.life.Machine.Answer(c)}
	if !r.answered(asker, Step[S, E]{State: r.life.State}) {
		r.callers = append(r.callers, asker)
	}
}

// answered gives a caller its answer, if there is one.
func (r *runner[S, C, E, F]) answered(c caller[S, E], now Step[S, E]) bool {
	if c.answer == nil {
		r.say("answer to %s: ok", c.name)
		return true
	}
	done, err := c.answer(now.State, now.Event)
	switch {
	case !done:
		return false
	case err != nil:
		r.say("answer to %s: %s", c.name, describeError(err))
	default:
		r.say("answer to %s: ok", c.name)
	}
	return true
}

func describeError(err error) string { return string(fault.KindOf(err)) + ": " + err.Error() }

// where writes the machine's phase and what it owes.
func (r *runner[S, C, E, F]) where() {
	text := r.life.Machine.Describe(r.life.State)
	owed := r.life.Machine.owed(r.life.State)
	for _, f := range owed {
		r.seen["effect "+reflect.TypeOf(f).Name()] = true
	}
	if len(owed) > 0 {
		text += ", owes " + Describe(owed)
	}
	r.say("%s", text)
}
