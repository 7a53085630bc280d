// Command agent runs in the guest and carries out what the host asks: see package ask.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/stele-runtime/stele/test/vm/ask"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	port, err := open("/dev/virtio-ports/" + ask.Port)
	if err != nil {
		return err
	}
	defer port.Close()
	replies := &replies{to: json.NewEncoder(port)}
	if err := replies.send(ask.Reply{Up: true}); err != nil {
		return err
	}
	for asked := json.NewDecoder(bufio.NewReader(port)); ; {
		var c ask.Command
		switch err := asked.Decode(&c); {
		case err == io.EOF: // the host hung up
			return nil
		case err != nil:
			return fmt.Errorf("read a command: %w", err)
		}
		if err := replies.send(carryOut(c, replies)); err != nil {
			return err
		}
	}
}

// open waits for the port: udev may be behind.
func open(path string) (*os.File, error) {
	for try := 0; ; try++ {
		port, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil || try == 100 {
			return port, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func carryOut(c ask.Command, replies *replies) ask.Reply {
	if len(c.Args) == 0 {
		return ask.Reply{Ended: true, Code: -1, Failure: "an empty command"}
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = replies, replies
	// What it leaves in the background may keep its output.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return ask.Reply{Ended: true, Code: -1, Failure: err.Error()}
	}
	end := ask.Reply{Ended: true, Code: cmd.ProcessState.ExitCode()}
	if end.Code == -1 {
		end.Failure = cmd.ProcessState.String()
	}
	return end
}

// replies are sent whole, whoever sends them.
type replies struct {
	mu sync.Mutex
	to *json.Encoder
}

func (r *replies) send(reply ask.Reply) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.to.Encode(reply)
}

// Write sends output.
func (r *replies) Write(p []byte) (int, error) {
	return len(p), r.send(ask.Reply{Output: p})
}
