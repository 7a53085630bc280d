// Package redact takes secrets out of what is shown: in errors, logs, statuses and the
// tools' output. It is the one place that knows where they hide: in addresses (text.go),
// in what a registry sends back (text.go), and in the CRI's configurations (state.go).
//
// It must not know who shows what to whom, and keeps nothing. Read text.go first.
package redact
