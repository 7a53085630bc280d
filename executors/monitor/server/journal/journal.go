package journal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

const (
	// damageSkip is how far the numbering jumps when numbers may have been
	// given that the journal doesn't show.
	damageSkip = 1 << 32
	// compactAbove is the size, in bytes, from which on the file is rewritten
	// when it has also doubled since the last time.
	compactAbove = 256 << 10
	// maxFile bounds what is read at the start, in bytes.
	maxFile = 256 << 20
)

// Journal is the file and what it says. It is safe for concurrent use.
type Journal struct {
	path   string
	damage string

	mu   sync.Mutex
	file *os.File
	size int64
	// compacted is the size after the last rewriting.
	compacted int64
	state     state
	// grown is closed and replaced when an exit is added.
	grown chan struct{}
}

// state is what the records add up to.
type state struct {
	// intents have the runtime, once it was started.
	intents    map[string]*pb.Started
	containers map[string]*pb.Container
	execs      map[string]*pb.Started
	// exits are those not acknowledged, in the order of their numbers.
	exits   []*pb.Exit
	lastSeq uint64
	acked   uint64
}

// Open reads the journal at path, or makes one. The caller sees to it that no
// other process has it open.
func Open(path string) (*Journal, error) {
	j := &Journal{
		path: path,
		state: state{
			intents:    map[string]*pb.Started{},
			containers: map[string]*pb.Container{},
			execs:      map[string]*pb.Started{},
		},
		grown: make(chan struct{}),
	}
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	if damaged, why := j.replay(data); why != nil {
		if err := j.setAside(damaged, len(data)-len(damaged), why); err != nil {
			return nil, err
		}
		j.state.lastSeq += damageSkip
	}
	// What was read is written anew: this drops the damaged part and bounds the
	// size over any number of starts.
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	return j, nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	return data, nil
}

// replay applies the records in data up to the first that can't be read, and
// returns the rest from there with the reason.
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

func (j *Journal) setAside(damaged []byte, offset int, why error) error {
	aside := fmt.Sprintf("%s.damaged-%s", j.path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.WriteFile(aside, damaged, 0o600); err != nil {
		return fmt.Errorf("put the damaged part of the journal aside: %w", err)
	}
	j.damage = fmt.Sprintf("journal: %v at offset %d; the last %d bytes are in %s", why, offset, len(damaged), filepath.Base(aside))
	return nil
}

// Damage describes what was wrong with the file when it was opened, and is empty
// when nothing was.
func (j *Journal) Damage() string { return j.damage }

// Close closes the file. What it says stays on disk.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}

// Intend records that a runtime is about to create the container.
func (j *Journal) Intend(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_Intended{Intended: id}})
}

// Creating records the runtime of a container that is intended.
func (j *Journal) Creating(runtime *pb.Started) error {
	return j.add(&pb.Record{Entry: &pb.Record_Creating{Creating: runtime}})
}

// Abandon takes an Intend back.
func (j *Journal) Abandon(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_Abandoned{Abandoned: id}})
}

// Created records a container, which is not changed afterwards.
func (j *Journal) Created(c *pb.Container) error {
	return j.add(&pb.Record{Entry: &pb.Record_Created{Created: c}})
}

// StdinClosed records that a container's standard input was closed for good.
func (j *Journal) StdinClosed(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_StdinClosed{StdinClosed: id}})
}

// Lost records what a container has lost of its output in all.
func (j *Journal) Lost(loss *pb.Loss) error {
	return j.add(&pb.Record{Entry: &pb.Record_Lost{Lost: loss}})
}

// ExecStarted records the runtime of an exec, or instead of that its process.
func (j *Journal) ExecStarted(process *pb.Started) error {
	return j.add(&pb.Record{Entry: &pb.Record_ExecStarted{ExecStarted: process}})
}

// ExecEnded drops an exec.
func (j *Journal) ExecEnded(id string) error {
	return j.add(&pb.Record{Entry: &pb.Record_ExecEnded{ExecEnded: id}})
}

// Exited gives exit the next number and records it. The exit is known to Exits
// even when the error says that it could not be written.
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

// SkipTo makes sure that numbers up to and including seq are not given again.
func (j *Journal) SkipTo(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if seq <= j.state.lastSeq {
		return nil
	}
	return j.addLocked(&pb.Record{Entry: &pb.Record_Numbered{Numbered: seq}})
}

// Exits returns the exits after seq that are not acknowledged, in order, and a
// channel that is closed when there is another.
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

// LastSeq returns the highest number that was given.
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

// Intents returns the containers that a runtime was about to create when the
// monitor ended, by id, with the runtime's process if it was started.
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

// addLocked applies the record and appends it. The lock is held over the write,
// which is to memory (tmpfs): the order in the file is the order in which things
// happened.
func (j *Journal) addLocked(record *pb.Record) error {
	j.state.apply(record)
	frame, err := appendFrame(nil, record)
	if err != nil {
		return err
	}
	if j.size > compactAbove && j.size > 2*j.compacted {
		// The rewritten file has the record already.
		return j.rewrite()
	}
	n, err := j.file.Write(frame)
	j.size += int64(n)
	if err != nil {
		// Half a record would hide everything after it.
		return errors.Join(fmt.Errorf("append to the journal: %w", err), j.rewrite())
	}
	return nil
}

// rewrite replaces the file by one that says the same in as few records as
// possible.
func (j *Journal) rewrite() error {
	var data []byte
	for _, record := range j.state.records() {
		var err error
		if data, err = appendFrame(data, record); err != nil {
			return err
		}
	}
	fresh := j.path + ".new"
	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite the journal: %w", err)
	}
	if _, err = file.Write(data); err == nil {
		err = os.Rename(fresh, j.path)
	}
	if err != nil {
		file.Close()
		return fmt.Errorf("rewrite the journal: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.size, j.compacted = file, int64(len(data)), int64(len(data))
	return nil
}
