package logtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stele-runtime/stele/eventlog"
)

// Maker makes the logs under test.
type Maker struct {
	// New returns an empty log and arranges for its cleanup; tests may close
	// it before.
	New func(t testing.TB, c eventlog.Clock) eventlog.Log

	// Reopen closes the log and opens it again, as a restart does.
	Reopen func(t testing.TB, l eventlog.Log, c eventlog.Clock) eventlog.Log

	// OpenBackup opens what Backup has written.
	OpenBackup func(t testing.TB, path string) eventlog.Reader
}

// BootID is the boot id that a Maker gives to its logs.
const BootID = "6b1f2c7e-0000-4000-8000-00000000b007"

// Run runs all tests of the suite.
func Run(t *testing.T, m Maker) {
	for name, test := range map[string]func(*testing.T, Maker){
		"an empty log is empty":                       testEmpty,
		"a record has all that was appended":          testFields,
		"sequences and versions have no gaps":         testNumbers,
		"an append of several entries is one":         testSeveralEntries,
		"a wrong version is refused and changes none": testWrongVersion,
		"two writers on one stream: one wins":         testRace,
		"appends are answered in their order":         testOrderOfAnswers,
		"what was answered can be read":               testReadYourWrites,
		"many writers at once":                        testConcurrency,
		"the caller's buffers are its own again":      testBuffers,
		"bad requests are refused":                    testBadRequests,
		"limits are inclusive":                        testLimits,
		"reading starts anywhere and stops at will":   testReadFrom,
		"reading ends where the log ended":            testReadEnds,
		"places are those of all records":             testPlaces,
		"single records are read":                     testReadAt,
		"reading obeys its context":                   testReadContext,
		"an append obeys its context":                 testAppendContext,
		"a subscriber gets everything, from anywhere": testSubscribe,
		"subscribers join while writers write":        testSubscribeConcurrently,
		"a slow subscriber does not stop others":      testSlowSubscriber,
		"a subscription ends with its context":        testSubscribeContext,
		"checkpoints are kept and changed":            testCheckpoints,
		"a delta on another checkpoint is refused":    testStaleCheckpoint,
		"large changes of a checkpoint are atomic":    testLargeCheckpoint,
		"bad deltas are refused":                      testBadDeltas,
		"appends go on while a checkpoint is saved":   testAppendsWhileSaving,
		"a stream that ended is dropped":              testTrimWhole,
		"everything is dropped":                       testTrimAll,
		"a stream begins at a base":                   testTrimPrefix,
		"bad trims are refused":                       testBadTrims,
		"trims do not disturb others":                 testTrimWhileInUse,
		"single records are removed":                  testThin,
		"what was removed is on record":               testGaps,
		"a base has what it stands in for on record":  testGapOfBase,
		"bad thinnings are refused":                   testBadThins,
		"thinnings do not disturb others":             testThinWhileInUse,
		"usage is counted":                            testUsage,
		"a compaction changes nothing":                testCompact,
		"compactions do not disturb others":           testCompactWhileInUse,
		"streams are listed by prefix":                testStreams,
		"a backup is complete":                        testBackup,
		"closing ends everything, twice":              testClose,
		"closing writes what waits":                   testCloseDrains,
		"everything is there after a restart":         testReopen,
		"verify counts and finds no damage":           testVerify,
		"a healthy log says so":                       testHealth,
		"any sequence of operations (property)":       testModel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, m)
		})
	}
}

// open returns an empty log with a clock that the test sets.
func (m Maker) open(t testing.TB) eventlog.Log {
	return m.New(t, NewClock())
}

// entry returns an entry that differs from others.
func entry(n int) eventlog.Entry {
	return eventlog.Entry{Type: "test.Happened", Schema: 1, Payload: fmt.Appendf(nil, "payload %d", n)}
}

// put appends entries to a stream, which must be at the expected version.
func put(t testing.TB, l eventlog.Log, s eventlog.Stream, expected eventlog.Version, entries ...eventlog.Entry) []eventlog.Record {
	t.Helper()
	records, err := l.Append(t.Context(), eventlog.Append{Stream: s, Expected: expected, Entries: entries})
	if err != nil {
		t.Fatalf("append to %q at %d: %v", s, expected, err)
	}
	return records
}

// fill appends n records, one at a time, to the streams in turn.
func fill(t testing.TB, l eventlog.Log, n int, streams ...eventlog.Stream) []eventlog.Record {
	t.Helper()
	var all []eventlog.Record
	versions := make(map[eventlog.Stream]eventlog.Version)
	for i := range n {
		s := streams[i%len(streams)]
		all = append(all, put(t, l, s, versions[s], entry(i))...)
		versions[s]++
	}
	return all
}

// collect reads to the end of an iteration, which must have no error but notices of removed
// records.
func collect(t testing.TB, records iter.Seq2[eventlog.Record, error]) []eventlog.Record {
	t.Helper()
	var all []eventlog.Record
	for r, err := range records {
		if errors.Is(err, eventlog.ErrRemoved) {
			continue
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		all = append(all, r)
	}
	return all
}

// take reads n records.
func take(t testing.TB, n int, records iter.Seq2[eventlog.Record, error]) []eventlog.Record {
	t.Helper()
	var all []eventlog.Record
	if n == 0 {
		return nil
	}
	for r, err := range records {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if all = append(all, r); len(all) == n {
			break
		}
	}
	return all
}

// end returns the error with which an iteration ends, and how many records came before it.
// Notices of removed records are no errors.
func end(records iter.Seq2[eventlog.Record, error]) (n int, err error) {
	for _, e := range records {
		if errors.Is(e, eventlog.ErrRemoved) {
			continue
		}
		if e == nil {
			n++
		}
		err = e
	}
	return n, err
}

// timeout bounds waits that end at once if the log is right.
func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
