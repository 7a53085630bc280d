package codec

import "strings"

// historyLost ends the types of records that say that the history of their entity is lost: what
// was found on the node after the event log was damaged, and nothing explains it. Nobody evolves a
// state from such a record, so that the stream is left alone, as if it were damaged.
const historyLost = ".HistoryLost.v1"

// HistoryLost returns such a record for a stream of that kind.
func HistoryLost(kind, reason string) Encoded {
	return Encoded{Type: kind + historyLost, Schema: Schema, Payload: []byte(reason)}
}

// HistoryLostError is what decoding a HistoryLost returns.
type HistoryLostError struct {
	// Reason is what is known of how it was lost.
	Reason string
}

func (e *HistoryLostError) Error() string { return "its history is lost: " + e.Reason }

// unknown is the error of a record whose type is in no table.
func unknown(name string, schema uint32, payload []byte) error {
	if strings.HasSuffix(name, historyLost) && schema == Schema {
		return &HistoryLostError{Reason: strings.ToValidUTF8(string(payload), "\uFFFD")}
	}
	return &UnknownTypeError{Type: name, Schema: schema}
}
