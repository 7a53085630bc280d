package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	drivers "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"
)

// A daemon that is killed while it writes a record leaves an empty one.
func TestNothingIsHeldForARecordCutOff(t *testing.T) {
	s, _ := pulled(t)
	must(t, os.WriteFile(s.recordPath(id("container"))+making, nil, 0o600), s.holds.make(""))
	s.Close()
	s = open(t, s.options)
	if held, err := s.holds.list(); err != nil || len(held) > 0 {
		t.Errorf("held are %q, %v", held, err)
	}
	release(t, s, id("container"))
}

// Who looks for the records of an image that is removed finds one by one name or the other.
func TestRecordGetsItsNameUnderTheLock(t *testing.T) {
	s, image := pulled(t)
	prepare(t, s, id("first"), image) // makes the hold
	layers := s.Rootfses.layers
	locked, unlock := make(chan struct{}), make(chan struct{})
	layers.driver.current.Store(&openDriver{Driver: lockingDriver{layers.driver.current.Load(), func() {
		go func() {
			must(t, s.holds.locked(unix.LOCK_EX, func() error {
				close(locked)
				<-unlock
				return nil
			}))
		}()
		<-locked
	}}})
	done := make(chan error, 1)
	go func() {
		done <- layers.create(context.Background(), layerRequest{
			name: id("second"), id: id("second"), imageID: image.ID, record: rootfsRecord{Owner: rootfsOwner, ImageID: image.ID},
		})
	}()
	<-locked
	for !waitsForLock(t, filepath.Join(s.layout.writableRoot(), "holds.lock")) {
		select {
		case err := <-done:
			close(unlock)
			t.Fatalf("the record got its name while another had the lock, %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	close(unlock)
	must(t, <-done)
	release(t, s, id("first"))
	release(t, s, id("second"))
}

// lockingDriver calls lock after it has made a layer.
type lockingDriver struct {
	*openDriver
	lock func()
}

func (d lockingDriver) CreateReadWrite(id, parent string, options *drivers.CreateOpts) error {
	defer d.lock()
	return d.openDriver.CreateReadWrite(id, parent, options)
}

// waitsForLock reports whether this process waits for a lock: see /proc/locks in proc(5).
func waitsForLock(t *testing.T, path string) bool {
	t.Helper()
	var file unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	must(t, err, unix.Stat(path, &file))
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, " -> ") && strings.Contains(line, fmt.Sprintf(":%d ", file.Ino)) {
			return true
		}
	}
	return false
}
