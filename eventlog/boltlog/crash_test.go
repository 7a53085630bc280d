package boltlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// crashPath, in the environment, makes TestCrashChild the child of TestCrash
// that writes to this log until it is killed.
const crashPath = "STELE_TEST_CRASH_LOG"

// TestCrash kills a process that appends, again and again, at random moments:
// every acknowledged append must be there, complete, and the log must be sound
// each time. (This tests the order of append and answer, and that the file is
// sound at each moment. A kill cannot test that the disk keeps what was synced.)
func TestCrash(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "log", "events.db")
	acknowledged := make(map[eventlog.Sequence]string)
	for round := range rounds {
		before := len(acknowledged)
		life := time.Duration(random.IntN(60_000)) * time.Microsecond
		// Every other child may be killed while it opens the log. The rest append
		// something first, however slow the machine is.
		appends := round%2 == 1
		runAndKill(t, path, life, appends, acknowledged)
		n := checkAcknowledged(t, path, acknowledged)
		t.Logf("round %d: %d acknowledged, %d in the log", round, len(acknowledged)-before, n)
	}
}

// runAndKill lets a child append, kills it after some time, and collects what it
// acknowledged before. The time begins with the child or, if appends, with its first
// append.
func runAndKill(t *testing.T, path string, life time.Duration, appends bool, acknowledged map[eventlog.Sequence]string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	child.Env = append(os.Environ(), crashPath+"="+path)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { child.Process.Kill() }
	started := !appends
	if started {
		time.AfterFunc(30*time.Millisecond+life, kill)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var sequence eventlog.Sequence
		var what string
		if n, _ := fmt.Sscanf(lines.Text(), "ack %d %s\n", &sequence, &what); n == 2 && strings.HasSuffix(what, ".") {
			acknowledged[sequence] = what
			if !started {
				started = true
				time.AfterFunc(life, kill)
			}
		}
	}
	if err := child.Wait(); err == nil || child.ProcessState.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

// checkAcknowledged opens the log as the next daemon would and returns how
// many records it has.
func checkAcknowledged(t *testing.T, path string, acknowledged map[eventlog.Sequence]string) int {
	t.Helper()
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	found := make(map[eventlog.Sequence]string)
	for r, err := range l.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		found[r.Sequence] = fingerprint(r)
	}
	for sequence, want := range acknowledged {
		if got := found[sequence]; got != want {
			t.Fatalf("record %d was acknowledged as %q, but is %q", sequence, want, got)
		}
	}
	checkWhole(t, l, len(found))
	return len(found)
}

// fingerprint identifies a record in one word. Its last byte shows that the
// word is complete.
func fingerprint(r eventlog.Record) string {
	return fmt.Sprintf("%s/%d/%d/%08x.", r.Stream, r.Version, r.Time.UnixNano(), crc32.ChecksumIEEE(r.Payload))
}

// TestCrashChild appends from several goroutines, and prints what was acknowledged,
// until it is killed. It is a test because the child is the test binary.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashPath)
	if path == "" {
		t.SkipNow() // not a child
	}
	l, err := Open(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var out sync.Mutex
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() { appendForEver(l, eventlog.Stream(fmt.Sprint("writer/", w)), &out) })
	}
	all.Go(func() {
		for l.Compact(context.Background()) == nil {
		}
	})
	all.Wait()
	t.Fatal("the writers ended")
}

func appendForEver(l *Log, s eventlog.Stream, out *sync.Mutex) {
	version := eventlog.Version(0)
	for {
		payload := make([]byte, rand.IntN(6000))
		for i := range payload {
			payload[i] = byte(rand.Uint32())
		}
		records, err := l.Append(context.Background(), eventlog.Append{Stream: s, Expected: version, Entries: []eventlog.Entry{
			{Type: "t", Payload: payload}, {Type: "t"},
		}})
		var wrong *eventlog.WrongVersionError
		switch {
		case errors.As(err, &wrong): // what the child before this one wrote
			version = wrong.Actual
			continue
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			return
		}
		version += 2
		out.Lock()
		for _, r := range records {
			fmt.Printf("ack %d %s\n", r.Sequence, fingerprint(r))
		}
		out.Unlock()
	}
}
