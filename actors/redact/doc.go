// Package redact removes secrets from errors, logs, statuses and the tools' output. It is
// the only place that knows where they are: in addresses and in what a registry echoes
// (text.go), and in the CRI's configurations and OCI specs (state.go).
//
// It must not know who shows what, and keeps no state. Read text.go first.
package redact
