package pump

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

var (
	kills = flag.Int("kills", 150, "how many processes TestKill kills")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what TestKill does")
)

// victimRedo and victimLog make this program run a pump with these files.
const (
	victimRedo = "STELE_TEST_REDO"
	victimLog  = "STELE_TEST_LOG"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(victimRedo); path != "" {
		if err := beVictim(path, os.Getenv(victimLog)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// beVictim pumps descriptors 3 and 4, and executes the commands on 5, answering each on
// 6.
func beVictim(redoPath, logPath string) error {
	file, damage, err := redo.Open(redoPath)
	if err != nil || damage != "" {
		return fmt.Errorf("open the redo file: %s, %w", damage, err)
	}
	p, err := New(slog.Default(), file)
	if err != nil {
		return err
	}
	go p.Run()
	log, err := crilog.Open(logPath, 0)
	if err != nil {
		return err
	}
	o, err := p.Attach(Pipes{Stdout: 3, Stderr: 4}, log)
	if err != nil {
		return err
	}
	word := []byte("r")
	for {
		if _, err := unix.Write(6, word); err != nil {
			return err
		}
		if n, err := unix.Read(5, word); n == 0 || err != nil {
			return err
		}
		switch word[0] {
		case 'o':
			err = o.Reopen()
		case 'd':
			drained := make(chan struct{})
			err = o.Drain(func() { close(drained) })
			<-drained
		case 'q':
			dropped, err := p.Settle()
			if err != nil || dropped > 0 {
				return fmt.Errorf("%d bytes were dropped, %w", dropped, err)
			}
			p.Stop()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// victim is a process that pumps.
type victim struct {
	*exec.Cmd
	tell, told *os.File
}

func startVictim(t *testing.T, env []string, stdout, stderr *os.File) *victim {
	t.Helper()
	heard, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	told, say, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{Cmd: exec.Command(os.Args[0]), tell: tell, told: told}
	v.Env = append(os.Environ(), env...)
	v.Stderr = os.Stderr
	v.ExtraFiles = []*os.File{stdout, stderr, heard, say}
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	heard.Close()
	say.Close()
	return v
}

// answers waits until the victim has executed a command. It reports whether it lives.
func (v *victim) answers() bool {
	_, err := v.told.Read(make([]byte, 1))
	return err == nil
}

func (v *victim) do(word string) bool {
	_, err := v.tell.WriteString(word)
	return err == nil && v.answers()
}

func (v *victim) close() {
	v.tell.Close()
	v.told.Close()
}

// speaker is a container's output of any length: lines with numbers, short and
// long, and bytes of any kind. It is a function of its seed.
type speaker struct {
	random *rand.Rand
	number int
	piece  []byte
}

func newSpeaker(seed uint64) *speaker { return &speaker{random: rand.New(rand.NewPCG(seed, 7))} }

func (s *speaker) next() []byte {
	r := s.random
	s.number++
	piece := fmt.Appendf(s.piece[:0], "%d ", s.number)
	switch r.IntN(20) {
	case 0:
		for range r.IntN(100) {
			piece = append(piece, byte(r.UintN(256)))
		}
	case 1:
		piece = append(piece, bytes.Repeat([]byte{'x'}, r.IntN(70_000))...)
	case 2, 3, 4:
		// No newline: the line continues with the next piece.
	case 5:
		piece = bytes.Repeat([]byte("short\n"), r.IntN(1000))
	default:
		piece = append(piece, bytes.Repeat([]byte{'y'}, r.IntN(200))...)
		piece = append(piece, '\n')
	}
	s.piece = piece
	return piece
}

// speak writes until stop, and returns how many pieces it wrote.
func (s *speaker) speak(to *os.File, pauses *rand.Rand, stop <-chan struct{}) (int, error) {
	defer to.Close()
	for pieces := 0; ; pieces++ {
		select {
		case <-stop:
			return pieces, nil
		default:
		}
		if _, err := to.Write(s.next()); err != nil {
			return pieces, err
		}
		if pauses.IntN(10) == 0 {
			time.Sleep(time.Duration(pauses.IntN(1000)) * time.Microsecond)
		}
	}
}

// listener compares a log with a speaker's output.
type listener struct {
	speaker *speaker
	pieces  int
	want    []byte
	heard   int64
}

func (l *listener) hear(got []byte) error {
	for len(got) > 0 {
		if len(l.want) == 0 {
			if l.pieces == 0 {
				return fmt.Errorf("there are %d bytes too many: %.40q", len(got), got)
			}
			l.pieces--
			l.want = l.speaker.next()
			continue
		}
		n := min(len(got), len(l.want))
		if !bytes.Equal(got[:n], l.want[:n]) {
			return fmt.Errorf("after %d bytes comes %s", l.heard, difference(got[:n], l.want[:n]))
		}
		got, l.want = got[n:], l.want[n:]
		l.heard += int64(n)
	}
	return nil
}

func (l *listener) end() error {
	for len(l.want) == 0 && l.pieces > 0 {
		l.pieces--
		l.want = l.speaker.next()
	}
	if len(l.want) > 0 {
		return fmt.Errorf("after %d bytes there is nothing; %d pieces are missing", l.heard, l.pieces)
	}
	return nil
}

// speech is the output of two speakers, until stop, into the pipes own.
type speech struct {
	own      [2]*os.File
	pieces   [2]int
	speakers sync.WaitGroup
	stop     chan struct{}
}

func beginSpeech(t *testing.T) *speech {
	t.Helper()
	s := &speech{stop: make(chan struct{})}
	for i := range s.own {
		var other *os.File
		var err error
		if s.own[i], other, err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.own[i].Close() })
		if err := unix.SetNonblock(int(s.own[i].Fd()), true); err != nil {
			t.Fatal(err)
		}
		pauses := rand.New(rand.NewPCG(*seed, uint64(i)))
		s.speakers.Go(func() {
			var err error
			if s.pieces[i], err = newSpeaker(*seed+uint64(i)).speak(other, pauses, s.stop); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// liveAndDie lets the victim live for a while, sometimes with its log renamed, and kills
// it.
func (v *victim) liveAndDie(t *testing.T, logs *logs, random *rand.Rand) {
	t.Helper()
	life := time.Duration(random.IntN(12_000)) * time.Microsecond
	early, rotate := random.IntN(8) == 0, random.IntN(3) == 0
	if !early && !v.answers() {
		t.Fatal("a process failed")
	}
	rotated := make(chan struct{})
	go func() {
		defer close(rotated)
		if rotate && !early {
			logs.rotate(t)
			v.do("o")
		}
	}()
	time.Sleep(life)
	if err := v.Process.Kill(); err != nil {
		t.Error(err)
	}
	v.Wait()
	<-rotated
	v.close()
}

// drainAndEnd lets the victim read what is left, once speakers have ended.
func (v *victim) drainAndEnd(t *testing.T, speakers *sync.WaitGroup) {
	t.Helper()
	defer v.close()
	if !v.answers() {
		t.Error("the last one does not answer")
	}
	speakers.Wait()
	for range 3 {
		if !v.do("d") {
			t.Error("the last one does not drain")
		}
	}
	if _, err := v.tell.WriteString("q"); err != nil {
		t.Error(err)
	}
	if err := v.Wait(); err != nil {
		t.Error(err)
	}
}

// Processes are killed while both streams are at full load and the log is being renamed,
// and all output is in the logs, once.
func TestKill(t *testing.T) {
	t.Logf("go test -run TestKill -kills %d -seed %d", *kills, *seed)
	// The logs are on whatever file system there is.
	logs := &logs{dir: filepath.Join(t.TempDir(), "logs")}
	env := []string{
		victimRedo + "=" + filepath.Join(tmpfs(t), "redo"),
		victimLog + "=" + filepath.Join(logs.dir, "0.log"),
	}
	logs.listeners = map[string]*listener{
		"stdout": {speaker: newSpeaker(*seed), pieces: 1 << 60},
		"stderr": {speaker: newSpeaker(*seed + 1), pieces: 1 << 60},
	}
	speech := beginSpeech(t)
	random := rand.New(rand.NewPCG(*seed, 0))
	for range *kills {
		startVictim(t, env, speech.own[0], speech.own[1]).liveAndDie(t, logs, random)
		if random.IntN(10) == 0 {
			logs.rotate(t)
		}
		if t.Failed() {
			break
		}
	}
	close(speech.stop)
	startVictim(t, env, speech.own[0], speech.own[1]).drainAndEnd(t, &speech.speakers)
	logs.listeners["stdout"].pieces -= 1<<60 - speech.pieces[0]
	logs.listeners["stderr"].pieces -= 1<<60 - speech.pieces[1]
	logs.rotate(t)
	if err := logs.read(0); err != nil {
		t.Error(err)
	}
	for name, l := range logs.listeners {
		if err := l.end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %d bytes", name, l.heard)
	}
}

// logs are the files of a log that is rotated.
type logs struct {
	dir       string
	listeners map[string]*listener
	// made and gone are the numbers of the last file that was renamed, and of the
	// last that was read and removed.
	made, gone int
}

func (l *logs) name(number int) string { return filepath.Join(l.dir, fmt.Sprintf("0.log.%d", number)) }

// rotate renames the log, and reads the files that are no longer written.
func (l *logs) rotate(t *testing.T) {
	err := os.Rename(filepath.Join(l.dir, "0.log"), l.name(l.made+1))
	if os.IsNotExist(err) {
		return
	}
	if err == nil {
		l.made++
		err = l.read(8)
	}
	if err != nil {
		t.Error(err)
	}
}

// read reads and removes all but a number of files.
func (l *logs) read(but int) error {
	for l.gone+but < l.made {
		l.gone++
		data, err := os.ReadFile(l.name(l.gone))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			stream, content, err := parse(line)
			if err == nil {
				err = l.listeners[stream].hear(content)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.name(l.gone), err)
			}
		}
		if err := os.Remove(l.name(l.gone)); err != nil {
			return err
		}
	}
	return nil
}
