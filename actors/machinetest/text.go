package machinetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stele-runtime/stele/actors/fault"
)

// Epoch is when every trace and every walk begins. Times are written as offsets from
// it.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Describe writes a value as traces show it: the name of its type, then the non-zero
// fields, with dots between levels. Semicolons separate the values of a list.
func Describe(v any) string {
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
		var parts []string
		for i := range list.Len() {
			parts = append(parts, Describe(list.Index(i).Interface()))
		}
		return strings.Join(parts, "; ")
	}
	words := []string{reflect.TypeOf(v).Name()}
	return strings.Join(append(words, fields("", reflect.ValueOf(v))...), " ")
}

// fields writes the content of v, as words of the form path=value.
func fields(path string, v reflect.Value) []string {
	if v.IsZero() {
		return nil
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return []string{path + "=" + since(x)}
	case time.Duration:
		return []string{path + "=" + x.String()}
	case fault.Fault:
		return []string{path + "=" + strconv.Quote(string(x.Kind)+": "+x.Error())}
	case error:
		return []string{path + "=" + strconv.Quote(x.Error())}
	case []byte:
		return []string{path + "=" + quote(string(x))}
	case []string:
		return []string{path + "=" + quote(strings.Join(x, ","))}
	}
	switch v.Kind() {
	case reflect.Struct:
		return structFields(path, v)
	case reflect.Slice:
		var words []string
		for i := range v.Len() {
			words = append(words, fields(join(path, strconv.Itoa(i)), v.Index(i))...)
		}
		return words
	case reflect.Map:
		var words []string
		for _, k := range v.MapKeys() {
			inner := fields(fmt.Sprintf("%s[%v]", path, k), v.MapIndex(k))
			if inner == nil {
				inner = []string{fmt.Sprintf("%s[%v]", path, k)}
			}
			words = append(words, inner...)
		}
		slices.Sort(words)
		return words
	default:
		return []string{path + "=" + quote(fmt.Sprint(v.Interface()))}
	}
}

func structFields(path string, v reflect.Value) []string {
	var words []string
	for i := range v.NumField() {
		switch field := v.Type().Field(i); {
		case field.Name == "Pod" || field.Name == "Spec":
			// Every effect carries the same of its owner.
		case field.Anonymous && !field.IsExported():
			words = append(words, structFields(path, v.Field(i))...)
		default:
			words = append(words, fields(join(path, field.Name), v.Field(i))...)
		}
	}
	return words
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func since(t time.Time) string { return "+" + t.Sub(Epoch).String() }

func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \t\n\"=;") {
		return strconv.Quote(s)
	}
	return s
}

// parse fills in the value that the words describe, in Describe's form. A field At
// that is not mentioned is set to now.
func parse(v reflect.Value, words []string, now time.Time) error {
	for _, word := range words {
		path, text, ok := strings.Cut(word, "=")
		if !ok {
			return fmt.Errorf("%q is not of the form field=value", word)
		}
		if unquoted, err := strconv.Unquote(text); err == nil {
			text = unquoted
		}
		field := v
		for name := range strings.SplitSeq(path, ".") {
			if i, err := strconv.Atoi(name); err == nil && field.Kind() == reflect.Slice {
				for field.Len() <= i {
					field.Set(reflect.Append(field, reflect.Zero(field.Type().Elem())))
				}
				field = field.Index(i)
				continue
			}
			if field.Kind() != reflect.Struct || !field.FieldByName(name).IsValid() {
				return fmt.Errorf("%s has no field %s", v.Type(), path)
			}
			field = field.FieldByName(name)
		}
		if err := set(field, text); err != nil {
			return fmt.Errorf("field %s: %w", path, err)
		}
	}
	stamp(v, now)
	return nil
}

func set(field reflect.Value, text string) error {
	switch field.Interface().(type) {
	case time.Time:
		d, err := time.ParseDuration(strings.TrimPrefix(text, "+"))
		field.Set(reflect.ValueOf(Epoch.Add(d)))
		return err
	case time.Duration:
		d, err := time.ParseDuration(text)
		field.SetInt(int64(d))
		return err
	case []byte:
		field.SetBytes([]byte(text))
		return nil
	case []string:
		field.Set(reflect.ValueOf(strings.Split(text, ",")))
		return nil
	}
	switch {
	case field.Type() == reflect.TypeFor[error]():
		field.Set(reflect.ValueOf(failure(text)))
	case field.Kind() == reflect.String:
		field.SetString(text)
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		field.SetBool(b)
		return err
	case field.CanInt():
		n, err := strconv.ParseInt(text, 10, 64)
		field.SetInt(n)
		return err
	case field.CanUint():
		n, err := strconv.ParseUint(text, 10, 64)
		field.SetUint(n)
		return err
	default:
		return fmt.Errorf("a %s cannot be written in a trace", field.Type())
	}
	return nil
}

// kinds are the fault kinds that an error in a trace may have as its prefix.
var kinds = []fault.Kind{fault.Unavailable, fault.Deadline, fault.NotFound, fault.Unauthorized, fault.Interrupted}

// failure returns the error of a driver: a fault if the text begins with a kind
// ("unavailable: no address is left"), a plain error otherwise.
func failure(text string) error {
	for _, kind := range kinds {
		if reason, ok := strings.CutPrefix(text, string(kind)+": "); ok {
			return &fault.Fault{Kind: kind, Reason: reason}
		}
	}
	return errors.New(text)
}

func stamp(v reflect.Value, now time.Time) {
	for i := range v.NumField() {
		field := v.Field(i)
		at, isTime := field.Interface().(time.Time)
		switch {
		case isTime && v.Type().Field(i).Name == "At" && at.IsZero():
			field.Set(reflect.ValueOf(now))
		case !isTime && field.Kind() == reflect.Struct:
			stamp(field, now)
		}
	}
}

// words splits a line at spaces outside of quotes.
func words(line string) []string {
	var words []string
	var quoted, escaped bool
	word := strings.Builder{}
	for _, r := range line {
		switch {
		case escaped:
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
			continue
		}
		word.WriteRune(r)
	}
	if word.Len() > 0 {
		words = append(words, word.String())
	}
	return words
}
