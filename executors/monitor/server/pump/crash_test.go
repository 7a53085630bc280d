package pump

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stele-runtime/stele/executors/monitor/server/crilog"
	"github.com/stele-runtime/stele/executors/monitor/server/redo"
)

// world is a container and its logs, which outlive any number of pumps.
type world struct {
	t    *testing.T
	dir  string
	fate fate
	// The monitor's ends, and the container's. A terminal has only out.
	out, err   [2]int
	want, wane []byte
	moves      int
	// files are all logs so far, in order.
	files []*os.File
	seen  map[uint64]bool
}

func newWorld(t *testing.T, f fate) *world {
	w := &world{t: t, dir: tmpfs(t), fate: f, seen: map[uint64]bool{}, err: [2]int{-1, -1}}
	if f.terminal {
		master, slave := newTerminal(t)
		w.out[0] = master
		var err error
		if w.out[1], err = unix.Open(slave, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		return w
	}
	for _, fds := range []*[2]int{&w.out, &w.err} {
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// tmpfs returns a directory for redo files, which are fast only there.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stele-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (w *world) close() {
	for _, fd := range []int{w.out[0], w.out[1], w.err[0], w.err[1]} {
		unix.Close(fd)
	}
	for _, f := range w.files {
		f.Close()
	}
}

// remove is close, and gives the memory back at once.
func (w *world) remove() {
	w.close()
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

func (w *world) log() string { return filepath.Join(w.dir, "logs", "0.log") }

// look opens the log if it is a new file: it may have been replaced.
func (w *world) look() {
	f, err := os.Open(w.log())
	if err != nil {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		w.t.Fatal(err)
	}
	if w.seen[st.Ino] {
		f.Close()
		return
	}
	// Kept open, so that its inode is not reused.
	w.seen[st.Ino] = true
	w.files = append(w.files, f)
}

// move renames the log, as the kubelet does.
func (w *world) move() {
	w.look()
	w.moves++
	if err := os.Rename(w.log(), fmt.Sprintf("%s.%d", w.log(), w.moves)); err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
}

func (w *world) write(fd int, data []byte) {
	if n, err := unix.Write(fd, data); err != nil || n != len(data) {
		w.t.Fatalf("wrote %d bytes, %v", n, err)
	}
	if w.fate.terminal {
		w.arrived(len(data))
	}
}

// arrived waits until the terminal has passed on what was written.
func (w *world) arrived(size int) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if n, err := available(w.out[0]); err != nil {
			w.t.Fatal(err)
		} else if n == size {
			return
		}
	}
	w.t.Fatal("the terminal keeps what was written")
}

// check compares the logs with what was written.
func (w *world) check() error {
	got := map[string][]byte{}
	for _, f := range w.files {
		data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err != nil {
			return err
		}
		for line := range bytes.Lines(data) {
			stream, content, err := parse(line)
			if err != nil {
				return err
			}
			got[stream] = append(got[stream], content...)
		}
	}
	for stream, want := range map[string][]byte{"stdout": w.want, "stderr": w.wane} {
		if !bytes.Equal(got[stream], want) {
			return fmt.Errorf("%s is %d bytes, want %d: %s", stream, len(got[stream]), len(want), difference(got[stream], want))
		}
	}
	return nil
}

// parse returns what a container wrote for a record.
func parse(line []byte) (stream string, content []byte, err error) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) < 4 || line[len(line)-1] != '\n' {
		return "", nil, fmt.Errorf("%.100q is no record", line)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000000Z", string(fields[0])); err != nil {
		return "", nil, err
	}
	stream, content = string(fields[1]), fields[3]
	switch string(fields[2]) {
	case "P":
		content = content[:len(content)-1]
	case "F":
	default:
		err = fmt.Errorf("%.100q has no tag", line)
	}
	if len(content) > crilog.MaxContent+1 || stream != "stdout" && stream != "stderr" {
		err = fmt.Errorf("%.100q is too long or of no stream", line)
	}
	return stream, content, err
}

func difference(got, want []byte) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("from byte %d on %.40q, want %.40q", i, got[i:], want[i:])
}

// life is a pump, without its goroutine, until it is killed.
type life struct {
	*world
	pump *Pump
	file *redo.File
	out  *Output
	// left is how many steps are left.
	left int
	// size is that of the log when it was last known what it must be.
	size int64
}

// killed is what a step panics with.
type killed struct{}

func (w *world) live(steps int) *life {
	l := &life{world: w, left: steps}
	var damage string
	var err error
	if l.file, damage, err = redo.Open(filepath.Join(w.dir, "redo")); err != nil || damage != "" {
		w.t.Fatal(damage, err)
	}
	if l.pump, err = New(slog.Default(), l.file); err != nil {
		w.t.Fatal(err)
	}
	l.file.Step = l.step
	l.measure()
	return l
}

func (l *life) step() {
	l.look()
	if l.left--; l.left == 0 {
		panic(killed{})
	}
	l.measure()
}

func (l *life) measure() {
	var st unix.Stat_t
	if unix.Stat(l.log(), &st) == nil {
		l.size = st.Size
	}
}

// attach does what Pump.Attach does.
func (l *life) attach() {
	log, err := crilog.Open(l.log(), l.fate.max)
	if err != nil {
		l.t.Fatal(err)
	}
	l.look()
	l.out = &Output{pump: l.pump, log: log}
	l.pump.completeWrites(log)
	for kind, fd := range map[crilog.Stream]int{crilog.Stdout: l.world.out[0], crilog.Stderr: l.world.err[0]} {
		if fd < 0 {
			continue
		}
		twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err == nil {
			err = l.out.offer(kind, twin)
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
}

// drain reads all that there is.
func (l *life) drain() { l.out.drain() }

// end closes what the kernel closes for a process.
func (l *life) end() {
	for fd, r := range l.pump.loop.ready {
		if _, ok := r.(*stream); ok {
			unix.Close(int(fd))
		}
	}
	if l.out != nil && l.out.log != nil {
		l.out.log.Close()
	}
	unix.Close(l.pump.loop.epoll)
	unix.Close(l.pump.loop.wake)
	l.pump.peek.close()
	l.file.Step = nil
	if err := l.file.Close(); err != nil {
		l.t.Error(err)
	}
}

// act is something that happens to a world: first once, and then rest again after each
// death until it completes.
type act struct {
	name  string
	first func(*world)
	rest  func(*life)
}

func says(data string) act {
	return act{fmt.Sprintf("output of %.20q", data), func(w *world) {
		w.write(w.out[1], []byte(data))
		w.want = append(w.want, data...)
	}, (*life).drain}
}

func complains(data string) act {
	return act{fmt.Sprintf("complaint of %.20q", data), func(w *world) {
		w.write(w.err[1], []byte(data))
		w.wane = append(w.wane, data...)
	}, (*life).drain}
}

func rotate() act {
	return act{"rotate", (*world).move, func(l *life) {
		if err := l.out.log.Reopen(); err != nil {
			l.t.Fatal(err)
		}
		l.pump.completeWrites(l.out.log)
		l.look()
	}}
}

func wait() act {
	return act{"wait", func(*world) {}, func(l *life) { l.pump.release(time.Now().Add(l.pump.holdTime)) }}
}

func end() act {
	return act{"end", func(w *world) {
		unix.Close(w.out[1])
		unix.Close(w.err[1])
		w.out[1], w.err[1] = -1, -1
	}, func(l *life) {
		l.out.exited = true
		l.drain()
	}}
}

// The acts go through all that a pump does. Two outputs in a row without a look at
// them in between are read as one.
var acts = []act{
	says("hello\n"),
	says("x"),
	says("yz"),
	complains("not "),
	rotate(),
	says(" and more\nand so on for a while"),
	wait(),
	says(" longer\n"),
	complains("yet\n\n\n"),
	says(strings.Repeat("some line or other\n", 60) + "\x00\xff\xfe"),
	wait(),
	rotate(),
	says("\n"),
	says(strings.Repeat("0123456789", 6000)),
	says("tail"),
	wait(),
	complains("no end"),
	wait(),
	says(strings.Repeat("\n", 3100)),
	says("the last"),
	end(),
}

// terminalActs don't have what a terminal can't do.
var terminalActs = []act{
	says("hello, world\n"),
	says("some prompt"),
	wait(),
	says(" and its answer\n"),
	says("y"),
	says("\n"),
	rotate(),
	says(strings.Repeat("0123456789", 300)),
	says(strings.Repeat("0123456789", 300)),
	says(strings.Repeat("abcdefghijklmnopqrstuvwxy\n", 100)),
	says("no more of it"),
	end(),
}

// fate is how processes end.
type fate struct {
	// deaths are the numbers of steps after which one process after another is
	// killed.
	deaths []int
	// torn, from 0 to 1, is how much of a write then happened.
	torn float64
	// moved: the log is then renamed.
	moved bool
	// max is the maximal size of a log.
	max int64
	// terminal: the container has one.
	terminal bool
}

// play plays the acts. It reports whether all processes that were to be killed
// were.
func play(t *testing.T, f fate) bool {
	w := newWorld(t, f)
	defer w.remove()
	deaths := f.deaths
	next := func() *life {
		if len(deaths) == 0 {
			return w.live(0)
		}
		steps := deaths[0]
		deaths = deaths[1:]
		return w.live(steps)
	}
	l := next()
	died := 0
	// survive does something again until it was not killed.
	survive := func(do func()) {
		for l.dies(f.torn, do) {
			died++
			if f.moved {
				w.move()
			}
			l.end()
			l = next()
		}
	}
	play := acts
	if f.terminal {
		play = terminalActs
	}
	for _, act := range play {
		started := false
		survive(func() {
			if l.out == nil {
				l.attach()
			}
			if !started {
				started = true
				act.first(w)
			}
			act.rest(l)
		})
	}
	survive(func() {
		if dropped := l.pump.settle(); dropped > 0 {
			t.Errorf("%+v: %d bytes were dropped", f, dropped)
		}
	})
	l.end()
	w.look()
	if err := w.check(); err != nil {
		t.Errorf("%+v: %v", f, err)
	}
	return died == len(f.deaths)
}

// Wherever one process is killed, and the next one soon after, all output is in the
// logs, once.
func TestEveryDeath(t *testing.T) {
	for _, f := range []fate{
		{torn: 1},
		{torn: 0},
		{torn: 0.5},
		{torn: 0.5, moved: true},
		{torn: 0.3, max: 30000},
		{torn: 0.2, terminal: true},
	} {
		t.Run(fmt.Sprintf("%+v", f), func(t *testing.T) {
			for first := 1; !t.Failed(); first++ {
				f.deaths = []int{first}
				if !play(t, f) {
					t.Logf("%d steps", first-1)
					break
				}
				if first%2 == 0 {
					f.deaths = []int{first, 1 + first%23}
					play(t, f)
				}
			}
		})
	}
}

// dies reports whether do was killed. A write that it was killed in is cut to a part.
func (l *life) dies(torn float64, do func()) (died bool) {
	defer func() {
		if why := recover(); why != nil {
			if _, ok := why.(killed); !ok {
				panic(why)
			}
			died = true
			l.tear(torn)
		}
	}()
	do()
	return false
}

func (l *life) tear(torn float64) {
	var st unix.Stat_t
	if err := unix.Stat(l.log(), &st); err != nil || st.Size <= l.size {
		return
	}
	if err := os.Truncate(l.log(), l.size+int64(float64(st.Size-l.size)*torn)); err != nil {
		l.t.Fatal(err)
	}
}
