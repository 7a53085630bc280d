package codec

import "fmt"

// StateSchema is the schema of a State as the base of a trimmed stream keeps it. Unlike a
// checkpoint, a base cannot be made again: its messages only ever get new fields.
const StateSchema = 1

// CheckState refuses the schema of a state that this version does not know.
func CheckState(schema uint32) error {
	if schema != StateSchema {
		return fmt.Errorf("the state has schema %d, and not %d", schema, StateSchema)
	}
	return nil
}

// FromBase returns a function that decodes the state of a base.
func FromBase[S any](decode func([]byte) (S, error)) func(uint32, []byte) (S, error) {
	return func(schema uint32, b []byte) (S, error) {
		if err := CheckState(schema); err != nil {
			var none S
			return none, err
		}
		return decode(b)
	}
}
