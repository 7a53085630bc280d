package machinetest

import (
	"errors"
	"reflect"
	"time"

	"pgregory.net/rapid"
)

// Strays checks that no command can break a machine, in any state and with any
// content: the functions are total and pure, states survive encoding and replays, and
// nothing leads out of final states.
func Strays[S, C, E any, F Effect](t *rapid.T, rules Rules[S, C, E, F], steps int) {
	w := NewWalk(rules)
	for range rapid.IntRange(0, steps).Draw(t, "steps") {
		final := w.Final(w.Life.State)
		if rapid.Bool().Draw(t, "likely") {
			_ = w.do(t, rules.Call(t, w))
		} else {
			_ = w.do(t, stray(t, rules.Machine.Commands))
		}
		if final && !w.Final(w.Life.State) {
			t.Fatalf("something led out of a final state\n%s", w.Life.History())
		}
		w.finalOwes(t)
	}
	w.Life.Replay(t)
}

// Events checks that Evolve and Owed are total: any events in any order lead to a
// state that survives encoding.
func Events[S, C, E any, F Effect](t *rapid.T, m Machine[S, C, E, F], steps int) {
	l := Life[S, C, E, F]{Machine: m}
	defer l.explain(t, "evolve")
	for range rapid.IntRange(0, steps).Draw(t, "steps") {
		e := stray(t, m.Events)
		l.Events, l.Causes = append(l.Events, e), append(l.Causes, "chance")
		l.evolve(t, e)
		l.check(t)
	}
}

// stray draws a value of one of the given values' types, with arbitrary content.
func stray[T any](t *rapid.T, all []T) T {
	v := reflect.New(reflect.TypeOf(rapid.SampledFrom(all).Draw(t, "type"))).Elem()
	fill(t, v)
	return v.Interface().(T)
}

func fill(t *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(Epoch.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)))
		return
	case time.Duration:
		v.SetInt(int64(rapid.IntRange(0, 100).Draw(t, "seconds")) * int64(time.Second))
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[error]():
		if rapid.Bool().Draw(t, "fails") {
			v.Set(reflect.ValueOf(errors.New("a stray failure")))
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(t, v.Field(i))
			}
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 2).Draw(t, "length"), 2))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case v.Kind() == reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "string"))
	case v.Kind() == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case v.CanInt():
		v.SetInt(int64(rapid.IntRange(-1, 2).Draw(t, "int")))
	case v.CanUint():
		v.SetUint(uint64(rapid.IntRange(0, 2).Draw(t, "uint")))
	default:
		t.Fatalf("fill a %s", v.Type())
	}
}
