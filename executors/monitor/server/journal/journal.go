package journal

import (
	"errors"
	"slices"
	"sync"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// damageSkip is how far the numbering jumps if numbers may have been used that the
// journal does not show.
const damageSkip = 1 << 32

// Journal is the file and its content. It is safe for concurrent use.
type Journal struct {
	damage string

	mu    sync.Mutex
	file  file
	state state
	// grown is closed and replaced when an exit is added.
	grown chan struct{}
}

// Open reads the journal at path, or creates one. The caller makes sure that no other
// process has it open.
func Open(path string) (*Journal, error) {
	j := &Journal{
		file:  file{path: path},
		state: newState(),
		grown: make(chan struct{}),
	}
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	damaged, why := j.replay(data)
	switch {
	case why != nil:
		j.state.lastSeq += damageSkip
		j.damage, err = j.file.repair(len(data)-len(damaged), damaged, why, j.state.records())
	case len(data) > 0:
		// A file without damage is kept: on a full disk there may be no room for another.
		err = j.file.resume(len(data))
	default:
		err = j.file.rewrite(j.state.records())
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

// replay applies the records in data up to the first unreadable one, and returns the
// rest from there with the reason.
func (j *Journal) replay(data []byte) (damaged []byte, why error) {
	for len(data) > 0 {
		record, rest, err := next(data)
		if err != nil {
			return data, err
		}
		j.state.apply(record)
		data = rest
	}
	return nil, nil
}

// Damage describes what was wrong with the file when it was opened; empty if nothing
// was.
func (j *Journal) Damage() string { return j.damage }

// Close closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.close()
}

// Intend records that a runtime is about to create the container.
func (j *Journal) Intend(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_Intended{Intended: id}})
}

// Creating records the runtime's process of an intended container.
func (j *Journal) Creating(runtime *pb.Started) error {
	return j.add(&pb.Record{Entry: &pb.Record_Creating{Creating: runtime}})
}

// Abandon undoes an Intend.
func (j *Journal) Abandon(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_Abandoned{Abandoned: id}})
}

// Created records a container, which must not be changed afterwards.
func (j *Journal) Created(c *pb.Container) error {
	return j.add(&pb.Record{Entry: &pb.Record_Created{Created: c}})
}

// StdinClosed records that a container's standard input was closed for good.
func (j *Journal) StdinClosed(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_StdinClosed{StdinClosed: id}})
}

// Lost records the total that a container has lost of its output.
func (j *Journal) Lost(loss *pb.Loss) error {
	return j.add(&pb.Record{Entry: &pb.Record_Lost{Lost: loss}})
}

// Blocked records the totals of a container's forbidden system calls.
func (j *Journal) Blocked(calls *pb.BlockedCalls) error {
	return j.add(&pb.Record{Entry: &pb.Record_Blocked{Blocked: calls}})
}

// ExecStarted records an exec's runtime, or replaces that by its process.
func (j *Journal) ExecStarted(process *pb.Started) error {
	return j.add(&pb.Record{Entry: &pb.Record_ExecStarted{ExecStarted: process}})
}

// ExecEnded drops an exec.
func (j *Journal) ExecEnded(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_ExecEnded{ExecEnded: id}})
}

// Exited gives exit the next number and records it. Exits has it even if it could not
// be written.
func (j *Journal) Exited(exit *pb.Exit) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	exit.Seq = j.state.lastSeq + 1
	err := j.addLocked(&pb.Record{Entry: &pb.Record_Exited{Exited: exit}})
	close(j.grown)
	j.grown = make(chan struct{})
	return err
}

// Ack drops the exits up to and including seq. Repeating it costs nothing.
func (j *Journal) Ack(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq <= j.state.acked {
		return nil
	}
	return j.addLocked(&pb.Record{Entry: &pb.Record_Acknowledged{Acknowledged: seq}})
}

// Forget drops a container. Its exit stays until it is acknowledged.
func (j *Journal) Forget(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.state.containers[id]; !ok {
		return nil
	}
	return j.addLocked(&pb.Record{Entry: &pb.Record_Forgotten{Forgotten: id}})
}

// SkipTo makes sure that numbers up to and including seq are not used again.
func (j *Journal) SkipTo(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq <= j.state.lastSeq {
		return nil
	}
	return j.addLocked(&pb.Record{Entry: &pb.Record_Numbered{Numbered: seq}})
}

// Exits returns the unacknowledged exits after seq, in order, and a channel that is
// closed when there is another.
func (j *Journal) Exits(after uint64) ([]*pb.Exit, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first, _ := slices.BinarySearchFunc(j.state.exits, after+1, func(e *pb.Exit, seq uint64) int {
		if e.Seq < seq {
			return -1
		}
		return min(1, int(e.Seq-seq))
	})
	return slices.Clone(j.state.exits[first:]), j.grown
}

// LastSeq returns the highest number used.
func (j *Journal) LastSeq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.lastSeq
}

// Containers returns the containers that are not forgotten, by id.
func (j *Journal) Containers() []*pb.Container {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.state.containers)
}

// Execs returns the execs that have not ended, by id.
func (j *Journal) Execs() []*pb.Started {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.state.execs)
}

// Intents returns the containers whose creation was interrupted by the monitor's end,
// by id, with the runtime's process if it was started.
func (j *Journal) Intents() []*pb.Started {
	j.mu.Lock()
	defer j.mu.Unlock()
	return sorted(j.state.intents)
}

// Rest calls f while nothing is being written.
func (j *Journal) Rest(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

func (j *Journal) add(record *pb.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.addLocked(record)
}

// addLocked applies the record and appends it. The lock is held over the write, which
// goes to memory (tmpfs), so that the file has the order of events.
func (j *Journal) addLocked(record *pb.Record) error {
	frame, err := appendFrame(nil, record)
	if err != nil {
		return err
	}
	j.state.apply(record)
	if j.file.behind || j.file.hasGrown() {
		// The rewritten file has the record already.
		if err := j.file.rewrite(j.state.records()); err == nil || j.file.behind {
			return err
		}
		// There is no room for a second file, but perhaps in the first.
	}
	if err := j.file.append(frame); err != nil {
		if rewriteErr := j.file.rewrite(j.state.records()); rewriteErr != nil {
			return errors.Join(err, rewriteErr)
		}
	}
	return nil
}
