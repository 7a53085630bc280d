package streaming

import (
	"context"
	"fmt"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// protocols by which WebSocket clients speak: the channel's number is a message's first
// byte, or digit.
const (
	protocolV1       = wsstream.ChannelWebSocketProtocol
	protocolV1Base64 = wsstream.Base64ChannelWebSocketProtocol
	protocolV4       = "v4." + protocolV1
	protocolV4Base64 = "v4." + protocolV1Base64
	// protocolV5 is protocolV4 with the end of the client's input.
	protocolV5 = remotecommand.StreamProtocolV5Name
)

// openWebSocket opens the client's streams by WebSocket.
func (c Command) openWebSocket(_ context.Context, q *request) (*channels, error) {
	direction := func(is bool, way wsstream.ChannelType) wsstream.ChannelType {
		if is {
			return way
		}
		return wsstream.IgnoreChannel
	}
	config := func(binary bool) wsstream.ChannelProtocolConfig {
		return wsstream.ChannelProtocolConfig{Binary: binary, Channels: []wsstream.ChannelType{
			remotecommand.StreamStdIn:  direction(c.Stdin, wsstream.ReadChannel),
			remotecommand.StreamStdOut: direction(c.Stdout, wsstream.WriteChannel),
			remotecommand.StreamStdErr: direction(c.Stderr, wsstream.WriteChannel),
			remotecommand.StreamErr:    wsstream.WriteChannel,
			remotecommand.StreamResize: direction(c.TTY, wsstream.ReadChannel),
		}}
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		"": config(true), protocolV1: config(true), protocolV1Base64: config(false),
		protocolV4: config(true), protocolV4Base64: config(false), protocolV5: config(true),
	})
	protocol, opened, err := conn.Open(q.w, q.Request)
	if err != nil {
		return nil, fmt.Errorf("speak WebSocket: %w", err)
	}
	ch := &channels{
		stdin: opened[remotecommand.StreamStdIn], stdout: opened[remotecommand.StreamStdOut], stderr: opened[remotecommand.StreamStdErr],
		endOutput: func() {}, status: opened[remotecommand.StreamErr],
		jsonStatus: protocol == protocolV4 || protocol == protocolV4Base64 || protocol == protocolV5,
		close: func() {
			q.client.lingers.Store(true)
			_ = conn.Close() // fails if the client has gone
		},
	}
	if c.TTY {
		ch.sizes = opened[remotecommand.StreamResize]
	}
	// Clients wait for a first, empty message on the lowest channel that they read.
	first := ch.status
	switch {
	case c.Stdout:
		first = ch.stdout
	case c.Stderr:
		first = ch.stderr
	}
	probe := func() { _, _ = first.Write(nil) }
	q.client.probe.Store(&probe)
	if _, err := first.Write(nil); err != nil {
		ch.close()
		return nil, fmt.Errorf("speak WebSocket: %w", err)
	}
	return ch, nil
}
