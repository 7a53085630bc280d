package namespaces

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// DialLoopback connects to a TCP port on the loopback of the network namespace that is
// pinned at path, or of the node's if path is empty: by IPv4, and if that fails by IPv6, as
// for the name localhost.
func DialLoopback(ctx context.Context, path string, port uint16) (conn *net.TCPConn, err error) {
	if path == "" {
		return dialHere(ctx, port)
	}
	// The socket stays in the namespace in which it was made.
	err = onThreadOfItsOwn(func() error {
		if err := enter(path, Network); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", path, err)
		}
		var err error
		conn, err = dialHere(ctx, port)
		return err
	})
	return conn, err
}

// dialHere makes the socket on the thread on which it is called: for an address that is no
// name the net package does not change goroutines.
func dialHere(ctx context.Context, port uint16) (*net.TCPConn, error) {
	var problems []error
	for _, ip := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(int(port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}
