// Package notify answers the system calls that a seccomp filter reports to user space
// (SECCOMP_RET_USER_NOTIF), in place of the kernel: each with an error, so that none ever
// happens.
//
// A runtime sends the descriptor that reports the calls to a socket, as the runtime-spec's
// linux.seccomp.listenerPath has it (receive.go). descriptor.go has the kernel's protocol:
// when the last copy of a descriptor is closed, the kernel answers ENOSYS by itself, so that
// nobody waits for a monitor that has died. A call that was read and not answered waits as long
// as there is a copy: for that reason nobody else has one. pace.go bounds how much of the node a
// container takes with such calls.
//
// It must not know containers, their records or the names of calls. What arrives is not trusted:
// everything is bounded.
package notify
