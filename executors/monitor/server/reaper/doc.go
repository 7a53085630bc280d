// Package reaper starts the monitor's children and learns how they, and the
// processes that they leave to the monitor as their subreaper, end.
//
// Exactly one place waits: the sweep, which takes every status that the kernel
// has, in a loop, whenever a child has ended. No status can be taken away from
// somebody who is about to ask for it, because
//
//   - starting a child and noting its pid happen under the lock that the sweep
//     needs, and
//   - while a runtime is being started (Begin), the statuses of processes that
//     nobody follows yet are kept, since the runtime's pid file may name one of
//     them in a moment (Follow).
//
// It knows processes and nothing of containers. Nothing else in the process may
// wait for children. Read reaper.go first.
package reaper
