package streaming

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
)

const (
	// maxFrame bounds a frame from a client, in bytes; the protocol's own bound is 16 MiB.
	// The library keeps up to 250 frames that nobody has read yet. Clients send 32 KiB.
	maxFrame = 1 << 20
	// frameHeader is the size of every frame's beginning: eight bytes, the last three of
	// which are the length of the rest.
	frameHeader = 8
)

// frames is a connection with SPDY frames. It refuses those that are too long, and writes
// each at once, where the library writes header and data apart.
type frames struct {
	net.Conn
	// in has what of the connection was read already.
	in *bufio.Reader

	// header is the part of a header that was read, and left what is to come of the frame.
	header []byte
	left   int

	// out is a frame that has begun to be written.
	out []byte
	// whole is held while a frame is written.
	whole sync.Mutex
}

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.in.Read(p)
	if failed := f.check(p[:n]); failed != nil {
		return 0, failed
	}
	return n, err
}

// check follows the frames in what was read.
func (f *frames) check(p []byte) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := min(frameHeader-len(f.header), len(p))
		f.header = append(f.header, p[:n]...)
		p = p[n:]
		if len(f.header) < frameHeader {
			return nil
		}
		f.left = length(f.header)
		f.header = f.header[:0]
		if f.left > maxFrame {
			return fmt.Errorf("the client sends a frame of %d bytes, and %d are allowed", f.left, maxFrame)
		}
	}
	return nil
}

// length is what follows a frame's header, in bytes.
func length(header []byte) int { return int(binary.BigEndian.Uint32(header[4:]) & 0xffffff) }

// Write collects a frame, and writes it when it is complete. The library does not write
// two at a time.
func (f *frames) Write(p []byte) (int, error) {
	f.out = append(f.out, p...)
	for len(f.out) >= frameHeader {
		size := frameHeader + length(f.out)
		if len(f.out) < size {
			break
		}
		if err := f.send(f.out[:size]); err != nil {
			return 0, err
		}
		f.out = append(f.out[:0], f.out[size:]...)
	}
	return len(p), nil
}

// send writes a frame.
func (f *frames) send(frame []byte) error {
	f.whole.Lock()
	defer f.whole.Unlock()
	_, err := f.Conn.Write(frame)
	return err
}

// ping sends a PING, which clients answer, and the library ignores the answer. That it
// fails shows in the connection.
func (f *frames) ping() { _ = f.send([]byte{0x80, 3, 0, 6, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xfe}) }
