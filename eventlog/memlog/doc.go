// Package memlog is an event log in memory, for tests. It keeps the contract
// of package eventlog (logtest checks that) except that nothing survives the
// process. Reopen plays a restart, PowerFailure one of the machine, and Fail a disk
// that cannot be written.
package memlog
