// Package reaper starts the monitor's children, and learns how they end and how the
// orphans end that the monitor inherits as their subreaper.
//
// Only the sweep waits for children: whenever one has ended it takes all statuses that
// the kernel has. No status is lost to a caller that is about to follow a process,
// because
//
//   - a child is started and its pid noted under the lock that the sweep needs, and
//   - while a runtime is running (Begin), the statuses of processes that are not
//     followed are kept, since the runtime's pid file may name one of them (Follow).
//
// It knows processes, not containers. Nothing else in the process may wait for
// children. Read reaper.go first.
package reaper
