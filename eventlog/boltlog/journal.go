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
	// journalSize is the file's fixed size: once it is allocated and written, a sync
	// concerns data pages only.
	journalSize = 4 << 20

	// journalPage is the alignment of frames, so that writing one never touches a
	// page, let alone a sector, of an acknowledged one.
	journalPage = 4 << 10

	// frameHeader is magic, pass, synced, length of the body and CRC-32C.
	frameHeader = 8 + len(passID{}) + sequenceSize + 4 + crcSize

	// emptyAt is where the journal is emptied if no request waits.
	emptyAt = journalSize / 2
)

// frameMagic begins each frame.
var frameMagic = []byte("stele/j2")

// passID names one pass through the journal, from its start. The bbolt file names the
// current one: it already has the records of other passes' frames.
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

// journal is a file beside the bbolt file in which a commit is one write to one place
// and one sync. In the bbolt file it would be some eight scattered pages. The journal's
// records go to the bbolt file from time to time, all together.
//
// It belongs to the holder of the bbolt file's lock.
type journal struct {
	file *os.File // nil if it cannot be used; every commit goes to the bbolt file then
	pass passID   // under way; zero if there is none
	at   int64    // where the next frame goes

	// written is the last record that is in the file, synced the last one that is
	// known to be on the disk, in this file or the other one.
	written, synced eventlog.Sequence

	frame []byte // buffer for one, reused
	disk  disk

	urgency urgency
}

// journalPath is where the journal of a log is.
func journalPath(path string) string { return path + ".journal" }

// openJournal opens a journal for writing, and creates and allocates it if need be. It
// syncs what is in it: the last writer may have been killed before it did.
func openJournal(path string, sync func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, fileMode)
	if err != nil {
		return nil, err
	}
	if err := allocate(f); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %s: %w", path, err), f.Close())
	}
	if err := forgetClosed(f); err != nil {
		return nil, errors.Join(fmt.Errorf("remove the mark of a clean close from %s: %w", path, err), f.Close())
	}
	if err := sync(f); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", path, err), f.Close())
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

// writeFrame writes a frame, without a sync.
func writeFrame(f *os.File, frame []byte, at int64) error {
	_, err := f.WriteAt(frame, at)
	return err
}

// syncFrames syncs all written frames to the disk.
func syncFrames(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// put writes a batch into one frame, and syncs it if it is lasting. It returns false,
// and no error, if there is no room for it, or no pass under way.
func (j *journal) put(b *batch) (done bool, err error) {
	if j.file == nil || j.pass == (passID{}) {
		return false, nil
	}
	frame := appendFrame(j.frame[:0], j.pass, j.synced, b.values)
	j.frame = frame
	if cap(j.frame) > journalSize/4 {
		j.frame = nil
	}
	if j.at+int64(len(frame)) > journalSize {
		return false, nil
	}
	if b.lasting {
		defer j.urgency.raise()()
	}
	if err := j.disk.write(j.file, frame, j.at); err != nil {
		return false, fmt.Errorf("write %d bytes to %s at %d: %w", len(frame), j.file.Name(), j.at, err)
	}
	j.at += int64(len(frame))
	j.written = b.next - 1
	if b.lasting {
		if err := j.sync(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// behind reports whether something written is not synced yet.
func (j *journal) behind() bool { return j.written != j.synced }

// sync syncs everything that was written.
func (j *journal) sync() error {
	if j.file == nil || !j.behind() {
		return nil
	}
	if err := j.disk.sync(j.file); err != nil {
		return fmt.Errorf("sync %s: %w", j.file.Name(), err)
	}
	j.synced = j.written
	return nil
}

// begin begins a pass. The bbolt file has it, and all records up to last.
func (j *journal) begin(p passID, last eventlog.Sequence) {
	j.pass, j.at, j.written, j.synced = p, 0, last, last
}

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
func appendFrame(b []byte, p passID, synced eventlog.Sequence, values [][]byte) []byte {
	b = append(b, frameMagic...)
	b = append(b, p[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(synced))
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

// frame is one that was read.
type frame struct {
	records []eventlog.Record // at least one
	synced  eventlog.Sequence // the last record that was known to be on the disk
	size    int               // bytes, in the file
}

func (f *frame) first() eventlog.Sequence { return f.records[0].Sequence }
func (f *frame) last() eventlog.Sequence  { return f.records[len(f.records)-1].Sequence }

// parseFrame parses the frame at the start of b. ok is false if there is no complete
// one of this pass.
func parseFrame(b []byte, p passID, decoder *recordDecoder) (f frame, ok bool) {
	if len(b) < frameHeader || !bytes.HasPrefix(b, frameMagic) || !bytes.Equal(b[len(frameMagic):][:len(p)], p[:]) {
		return f, false
	}
	length := int64(binary.BigEndian.Uint32(b[frameHeader-crcSize-4:]))
	if length > int64(len(b)-frameHeader) {
		return f, false
	}
	end := frameHeader + int(length)
	if binary.BigEndian.Uint32(b[frameHeader-crcSize:]) != frameSum(b[:end]) {
		return f, false
	}
	f.synced = eventlog.Sequence(binary.BigEndian.Uint64(b[len(frameMagic)+len(p):]))
	f.size = end + -end&(journalPage-1)
	values := parser{b: b[frameHeader:end]}
	for len(values.b) > 0 {
		record, err := decoder.decode(values.bytes(uint64(end)))
		if err != nil {
			return f, false
		}
		f.records = append(f.records, record)
	}
	return f, values.err == nil && len(f.records) > 0
}

// recalled is what a journal contains of a pass.
type recalled struct {
	records []eventlog.Record
	next    int64 // where the next frame goes
	dropped int   // records found after the end
}

// last is the sequence of the last record, 0 if there is none.
func (r *recalled) last() eventlog.Sequence {
	if len(r.records) == 0 {
		return 0
	}
	return r.records[len(r.records)-1].Sequence
}

// recall reads the records of a pass after last.
//
// An incomplete frame was never acknowledged, or it was volatile and not synced when the
// power failed. Either way the log ends there, even if later frames reached the disk; those
// are still in the file, so the pass must not be continued. But if a later frame says that
// its records were synced, or the disk cannot be read, they are damaged and missing.
func recall(path string, p passID, last eventlog.Sequence) (r recalled, err error) {
	b, unreadable, err := readJournal(path)
	if err != nil {
		return r, err
	}
	var decoder recordDecoder
	var frames []frame
	synced, reached := last, last
	for at := 0; at < len(b); {
		f, ok := parseFrame(b[at:], p, &decoder)
		if !ok || f.first() <= reached {
			at += journalPage
			continue
		}
		frames = append(frames, f)
		synced, reached = max(synced, f.synced), f.last()
		at += f.size
		r.next = int64(at)
	}
	for _, f := range frames {
		if r.dropped > 0 || f.first() > last+1 && last >= synced && !unreadable {
			r.dropped += len(f.records)
			r.next = journalSize
			continue
		}
		r.records = append(r.records, f.records...)
		last = f.last()
	}
	return r, nil
}

// readJournal reads the file page by page: an unreadable page is damage like any
// other.
func readJournal(path string) (b []byte, unreadable bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	b = make([]byte, journalSize)
	for at := 0; at < len(b); at += journalPage {
		_, err := f.ReadAt(b[at:at+journalPage], int64(at))
		switch {
		case errors.Is(err, unix.EIO):
			unreadable = true
		case err != nil && !errors.Is(err, io.EOF):
			return nil, false, err
		}
	}
	return b, unreadable, nil
}
