package machinetest

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// Outcomes checks that an effect's Failed returns the outcome of that effect, with the
// error, the time, and every field that the two have in common.
func Outcomes[S, C, E any, F Effect](t *testing.T, m Machine[S, C, E, F]) {
	rapid.Check(t, func(t *rapid.T) {
		f := stray(t, m.Effects)
		effect, outcome := reflect.ValueOf(f), reflect.ValueOf(m.Failed(f, errBroken, Epoch))
		if want := effect.Type().Name() + "Done"; outcome.Type().Name() != want {
			t.Fatalf("%s fails as %s, not as %s", effect.Type(), outcome.Type(), want)
		}
		for i := range outcome.NumField() {
			var want any
			switch name := outcome.Type().Field(i).Name; name {
			case "Err":
				want = errBroken
			case "At":
				want = Epoch
			default:
				own := effect.FieldByName(name)
				if !own.IsValid() {
					continue
				}
				want = own.Interface()
			}
			if got := outcome.Field(i).Interface(); !reflect.DeepEqual(got, want) {
				t.Fatalf("%s fails as %s: its %s is %v, not %v", Describe(f), Describe(outcome.Interface()), outcome.Type().Field(i).Name, got, want)
			}
		}
	})
}
