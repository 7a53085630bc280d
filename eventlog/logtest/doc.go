// Package logtest is the contract of package eventlog as tests. Every log
// passes them, so what a test shows with memlog is true of boltlog, too.
//
// Read Run first; each of its lines is one promise.
package logtest
