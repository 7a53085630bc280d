// Package vm runs Stele's tests on the kind of node that most people have: Linux 6.1 with
// cgroup v2, systemd and AppArmor or SELinux, in an emulated machine.
//
// Guest builds the disk, once for each version of the recipe: Debian with crun, and agent/ as
// a service, which carries out what the host asks over a serial port. Machine boots it from an
// overlay of the disk, with what is to be tested on a disk of its own. The guest has no
// network. A second boot has SELinux, with container.cil beside Debian's policy. Read machine.go
// first.
//
// A test that is to run in the guest is a test of test/e2e, by its name in core; TestNode there
// is for what differs between nodes. One of executors/stats runs, too: it compares what the
// kernel counts. Emulation makes everything ten to twenty times slower, so
// that a harness of its own costs half a minute for each kind of node.
package vm
