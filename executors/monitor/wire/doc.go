// Package wire carries the frames of proto/monitor/v1 over a Unix socket: one
// protobuf message and up to MaxDescriptors file descriptors in one packet. It
// knows sockets and nothing of what the messages mean. Both the daemon's client
// and the monitor use it.
//
// It is built on recvmsg and sendmsg through the runtime's poller and not on
// package net, which would double the monitor.
//
// Read conn.go first.
package wire
