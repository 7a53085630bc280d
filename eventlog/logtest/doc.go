// Package logtest is the contract of package eventlog as tests. Every log
// passes them, so that what a test learns on memlog is true of boltlog, too.
//
// Read Run first; each of its lines is one promise.
package logtest
