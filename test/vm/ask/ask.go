// Package ask is what the host and the guest's agent say to each other: lines of JSON on a
// serial port, one command at a time.
package ask

// Port is the serial port's name.
const Port = "stele.agent"

// Command is the host's: a program to run in the guest.
type Command struct {
	Args []string
	// Env is added to the agent's.
	Env []string
}

// Reply is the guest's. The first one after a boot is Up; a command is answered by any
// number with Output, and one with Ended.
type Reply struct {
	Up     bool   `json:",omitempty"`
	Output []byte `json:",omitempty"`
	Ended  bool   `json:",omitempty"`
	// Code is the command's exit code, -1 with Failure if it could not be run or was killed.
	Code    int
	Failure string `json:",omitempty"`
}
