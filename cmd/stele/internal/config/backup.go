package config

import (
	"errors"
	"time"

	"github.com/docker/go-units"
)

// Backup says when the event log is copied to <root>/backups.
type Backup struct {
	// Interval is the time between two backups; 0 for none.
	Interval time.Duration `toml:"interval"`
	// Keep is how many are kept.
	Keep int `toml:"keep"`
	// MaxSize is the largest log that is backed up, as "1GiB".
	MaxSize string `toml:"max_size"`
}

const (
	backupOftenest = time.Minute
	backupsMost    = 100
)

func defaultBackup() Backup { return Backup{Interval: 24 * time.Hour, Keep: 2, MaxSize: "2GiB"} }

func (b *Backup) check() error {
	var problems []error
	if b.Interval != 0 && b.Interval < backupOftenest {
		problems = append(problems, refuse("backup.interval", b.Interval, "is neither 0, for no backups, nor at least %v", backupOftenest))
	}
	if b.Keep < 1 || b.Keep > backupsMost {
		problems = append(problems, refuse("backup.keep", b.Keep, "is not from 1 to %d", backupsMost))
	}
	if most, err := b.Most(); err != nil || most <= 0 {
		problems = append(problems, refuse("backup.max_size", b.MaxSize, "is not a size, as in \"1GiB\""))
	}
	return errors.Join(problems...)
}

// Most is MaxSize in bytes.
func (b *Backup) Most() (int64, error) { return units.RAMInBytes(b.MaxSize) }
