package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"

	pb "github.com/stele-runtime/stele/proto/monitor/v1"
)

// Upgrade makes the monitor execute Config.Binary in the same process: containers,
// execs, logs and exits continue. It returns when the new program answers. After an
// error other than ErrLost the monitor is unchanged.
func (c *Client) Upgrade(ctx context.Context) error {
	s, err := c.link.current(ctx)
	if err != nil {
		return err
	}
	if !s.speaks(versionTerminals) {
		return fmt.Errorf("upgrade the monitor: %w", s.tooOld())
	}
	c.link.setUpgrading(true)
	defer c.link.setUpgrading(false)
	f, err := s.roundTrip(ctx, &pb.Request{Call: &pb.Request_Upgrade{Upgrade: &pb.Upgrade{Binary: c.config.Binary}}})
	f.close()
	if err == nil {
		err = errors.New("it reported success, but runs the old program")
	}
	if !errors.Is(err, ErrLost) {
		return fmt.Errorf("upgrade the monitor to %s: %w", c.config.Binary, err)
	}
	// The session may still be the current one for a moment.
	c.link.depart(s)
	next, err := c.link.current(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("upgrade the monitor to %s: %w", c.config.Binary, err)
	case next.welcome.Instance == s.welcome.Instance:
		return fmt.Errorf("upgrade the monitor to %s: the connection was lost, and it runs the old program", c.config.Binary)
	case next.welcome.Pid != s.welcome.Pid:
		return fmt.Errorf("upgrade the monitor to %s: %w: process %d ended, process %d was started", c.config.Binary, ErrLost, s.welcome.Pid, next.welcome.Pid)
	}
	c.config.Logger.Info("the monitor was upgraded", "pid", next.welcome.Pid, "from", s.welcome.Build, "to", next.welcome.Build)
	return nil
}

// upgradeOther upgrades a monitor of another version that was met at the start. If
// that fails, the old one will do.
func (c *Client) upgradeOther(ctx context.Context, s *session) {
	running := s.welcome.Build
	if c.config.Build == "" || running == c.config.Build {
		return
	}
	version, err := exec.CommandContext(ctx, c.config.Binary, "-version").Output()
	if err == nil && string(bytes.TrimSpace(version)) == running {
		return
	}
	if err == nil {
		err = c.Upgrade(ctx)
	}
	if err != nil {
		c.config.Logger.Warn("the monitor is of another version", "monitor", running, "daemon", c.config.Build, "error", err)
	}
}
