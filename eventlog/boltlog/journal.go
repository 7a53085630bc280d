package boltlog

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/eventlog"
)

// Sizes of the journal, in bytes.
const (
	// journalSize is how large the file is, always: what is allocated and written
	// once needs nothing but its own pages to be synced.
	journalSize = 4 << 20

	// journalPage is what frames are aligned to, so that writing one never touches
	// a page, let alone a sector, of one that was acknowledged.
	journalPage = 4 << 10

	// frameHeader is magic, pass, length of the body and CRC-32C.
	frameHeader = 8 + len(passID{}) + 4 + crcSize

	// emptyAt is from where on the journal is emptied when nobody waits.
	emptyAt = journalSize / 2
)

// frameMagic begins each frame.
var frameMagic = []byte("stele/j1")

// passID names one pass through the journal, from its start. The bbolt file says
// which one is under way: frames of others are in it already.
type passID [16]byte

func newPass() (p passID) {
	_, _ = rand.Read(p[:]) // it never fails
	return p
}

// parsePass parses the value of keyJournal; no value is no pass.
func parsePass(value []byte) (p passID, err error) {
	if value == nil {
		return p, nil
	}
	body, err := checkCRC(value)
	if err == nil && len(body) != len(p) {
		err = fmt.Errorf("%d bytes", len(body))
	}
	if err != nil {
		return p, fmt.Errorf("the journal's pass is damaged: %w", err)
	}
	return passID(body), nil
}

func (p passID) value() []byte { return appendCRC(bytes.Clone(p[:]), 0) }

// journal is the file beside the log's own in which a commit is one write to one
// place and one sync. In the bbolt file it would be some eight pages all over it. What
// is in the journal goes to the bbolt file from time to time, all together.
//
// It belongs to who holds the lock of the log's file.
type journal struct {
	file *os.File // nil if it cannot be used: then every commit goes to the bbolt file
	pass passID   // under way; zero if there is none
	at   int64    // where the next frame goes

	frame []byte // room for one, used again
	write func(f *os.File, frame []byte, at int64) error

	urgency urgency
}

// journalPath is where the journal of a log is.
func journalPath(path string) string { return path + ".journal" }

// openJournal opens a journal for writing. It makes and allocates it if need be.
func openJournal(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, err
	}
	if err := allocate(f); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %s: %w", path, err), f.Close())
	}
	return f, nil
}

// allocate fills the file up to its size. If the disk has no room for it, it is
// left empty.
func allocate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is not a file but %v", info.Mode().Type())
	}
	if info.Mode().Perm() != fileMode {
		if err := f.Chmod(fileMode); err != nil {
			return err
		}
	}
	if info.Size() >= journalSize {
		return nil
	}
	_, err = f.WriteAt(make([]byte, journalSize-info.Size()), info.Size())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.Name()))
	}
	if err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// writeFrame writes a frame so that it is on the disk.
func writeFrame(f *os.File, frame []byte, at int64) error {
	if _, err := f.WriteAt(frame, at); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// put writes records into one frame. It returns false, and no error, if there is no
// room for them, or no pass under way.
func (j *journal) put(values [][]byte) (done bool, err error) {
	if j.file == nil || j.pass == (passID{}) {
		return false, nil
	}
	frame := appendFrame(j.frame[:0], j.pass, values)
	j.frame = frame
	if cap(j.frame) > journalSize/4 {
		j.frame = nil
	}
	if j.at+int64(len(frame)) > journalSize {
		return false, nil
	}
	lower := j.urgency.raise()
	err = j.write(j.file, frame, j.at)
	lower()
	if err != nil {
		return false, fmt.Errorf("write %d bytes to %s at %d: %w", len(frame), j.file.Name(), j.at, err)
	}
	j.at += int64(len(frame))
	return true, nil
}

// begin begins a pass, which the bbolt file has to know.
func (j *journal) begin(p passID) { j.pass, j.at = p, 0 }

// giveUp stops using the journal until it is opened again.
func (j *journal) giveUp(log *slog.Logger) {
	if j.file == nil {
		return
	}
	if err := j.file.Close(); err != nil {
		log.Warn("event log: close its journal", "cause", err)
	}
	j.file = nil
}

// appendFrame appends a frame, up to the end of its last page, to b, which is empty.
func appendFrame(b []byte, p passID, values [][]byte) []byte {
	b = append(b, frameMagic...)
	b = append(b, p[:]...)
	b = append(b, make([]byte, frameHeader-len(b))...)
	for _, v := range values {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	sum := b[frameHeader-crcSize : frameHeader]
	binary.BigEndian.PutUint32(b[frameHeader-crcSize-4:], uint32(len(b)-frameHeader))
	binary.BigEndian.PutUint32(sum, frameSum(b))
	return append(b, make([]byte, -len(b)&(journalPage-1))...)
}

// frameSum is the CRC-32C of a frame without that field.
func frameSum(frame []byte) uint32 {
	sum := crc32.Checksum(frame[:frameHeader-crcSize], castagnoli)
	return crc32.Update(sum, castagnoli, frame[frameHeader:])
}

// parseFrame parses the frame at the start of b and returns how many bytes it
// takes. ok is false if there is none of this pass, or no whole one.
func parseFrame(b []byte, p passID, decoder *recordDecoder) (records []eventlog.Record, size int, ok bool) {
	if len(b) < frameHeader || !bytes.HasPrefix(b, frameMagic) || !bytes.Equal(b[len(frameMagic):][:len(p)], p[:]) {
		return nil, 0, false
	}
	length := int64(binary.BigEndian.Uint32(b[frameHeader-crcSize-4:]))
	if length > int64(len(b)-frameHeader) {
		return nil, 0, false
	}
	end := frameHeader + int(length)
	if binary.BigEndian.Uint32(b[frameHeader-crcSize:]) != frameSum(b[:end]) {
		return nil, 0, false
	}
	values := parser{b: b[frameHeader:end]}
	for len(values.b) > 0 {
		record, err := decoder.decode(values.bytes(uint64(end)))
		if err != nil {
			return nil, 0, false
		}
		records = append(records, record)
	}
	return records, end + -end&(journalPage-1), values.err == nil
}

// recall reads what a pass has put into a journal, from the record after last on, and
// where its next frame goes.
//
// A frame that is not whole at the end was never acknowledged. One before others is
// damaged: its records are missing.
func recall(path string, p passID, last eventlog.Sequence) (records []eventlog.Record, next int64, err error) {
	b, err := readJournal(path)
	if err != nil {
		return nil, 0, err
	}
	var decoder recordDecoder
	for at := 0; at < len(b); {
		frame, size, ok := parseFrame(b[at:], p, &decoder)
		if !ok || len(frame) == 0 || frame[0].Sequence <= last {
			at += journalPage
			continue
		}
		records = append(records, frame...)
		last = frame[len(frame)-1].Sequence
		at += size
		next = int64(at)
	}
	return records, next, nil
}

// readJournal reads the file, page by page: one that the disk cannot read is
// damage like any other.
func readJournal(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, journalSize)
	for at := 0; at < len(b); at += journalPage {
		_, err := f.ReadAt(b[at:at+journalPage], int64(at))
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.EIO) {
			return nil, err
		}
	}
	return b, nil
}
