// Package syscalls knows the names of Linux's system calls, by number, for the machines that Stele
// runs on and the 32-bit ones whose programs these run.
//
// Its tables are the constants of golang.org/x/sys (`go test ./executors/syscalls -update` writes
// them anew). It must not know what a call does, or who is allowed to use it.
package syscalls
