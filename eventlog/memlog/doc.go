// Package memlog is an event log in memory, for tests. It keeps the contract
// of package eventlog (logtest checks that) except that nothing survives the
// process. Reopen simulates a restart, PowerFailure a power failure, and Fail a disk
// that cannot be written.
package memlog
