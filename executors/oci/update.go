package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stele-runtime/stele/actors/fault"
)

// Update is a change of a container's limits.
type Update struct {
	// Set is what to set; what is nil or empty stays as it is.
	Set specs.LinuxResources
	// OOMScoreAdj is set for the container's processes, unless nil.
	OOMScoreAdj *int
	// MemoryLimit, in bytes: if more is in use, nothing is changed. 0 for no check.
	MemoryLimit int64
	// Fields are the names of what is asked for, for messages.
	Fields []string
}

// Update changes the limits of a container that has not ended: all of them, or none.
// Commands that join a container of runc's later have the oom_score_adj of its creation.
//
// The runtime's command does it, because the runtime made the cgroup: it knows whether
// systemd must be told, how it turns shares into a weight, and in which order memory and
// swap change; and its own record of the limits stays true. What no runtime's command
// takes, the limits of huge pages and oom_score_adj, is set here, before.
func (d *Driver) Update(ctx context.Context, c Container, u Update) (err error) {
	const op = "update container"
	if c.Init.PID == 0 {
		return fault.New(fault.Precondition, op, c.ID, "it has ended")
	}
	path, err := cgroupsPath(c)
	if err != nil {
		return err
	}
	if err := d.checkMemory(path, c.ID, u.MemoryLimit); err != nil {
		return err
	}
	var undoing []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, undo := range slices.Backward(undoing) {
			if undoErr := undo(); undoErr != nil {
				err = errors.Join(err, fmt.Errorf("undo the update of container %s: %w", c.ID, undoErr))
			}
		}
	}()
	for _, h := range u.Set.HugepageLimits {
		undo, err := d.cgroups.SetHugepages(path, c.ID, h.Pagesize, h.Limit)
		if err != nil {
			return fault.New(fault.Precondition, op, c.ID, "linux.hugepage_limits: %v", err)
		}
		undoing = append(undoing, undo)
	}
	if u.OOMScoreAdj != nil {
		before, err := d.cgroups.SetOOMScoreAdj(path, c.ID, c.Init.PID, *u.OOMScoreAdj)
		if err != nil {
			return fault.New(fault.Precondition, op, c.ID, "linux.oom_score_adj: %v", err)
		}
		undoing = append(undoing, func() error {
			_, err := d.cgroups.SetOOMScoreAdj(path, c.ID, c.Init.PID, before)
			return err
		})
	}
	undo, err := record(c.Bundle, u)
	if err != nil {
		return err
	}
	undoing = append(undoing, undo)
	return d.updateByCommand(ctx, c, u)
}

// checkMemory refuses a limit below what is used. On v1 the kernel would drop what it can
// of the page cache to fit, and on v2 kill processes, too.
func (d *Driver) checkMemory(path, id string, limit int64) error {
	if limit == 0 {
		return nil
	}
	used, err := d.cgroups.MemoryUsed(path, id)
	if err != nil {
		return fault.New(fault.Precondition, "update container", id, "%v", err)
	}
	if used > limit {
		return fault.New(fault.Precondition, "update container", id,
			"linux.memory_limit_in_bytes: %d is below the %d bytes that the container uses", limit, used)
	}
	return nil
}

// updateByCommand runs the runtime's update, unless there is nothing in it for that.
func (d *Driver) updateByCommand(ctx context.Context, c Container, u Update) error {
	set := u.Set
	set.HugepageLimits = nil
	if set.CPU == nil && set.Memory == nil && len(set.Unified) == 0 {
		return nil
	}
	update := func(set specs.LinuxResources) error {
		data, err := json.Marshal(set)
		if err != nil {
			return fmt.Errorf("update container %s: %w", c.ID, err)
		}
		_, err = d.runWith(ctx, bytes.NewReader(data), "update container", c.ID, append(d.globalArgs(""), "update", "--resources", "-", c.ID)...)
		return err
	}
	if d.OwnKernel() && set.Memory != nil && set.Memory.Swap != nil {
		// gVisor always sets the limit of memory before that of memory and swap, and on cgroup v1
		// it may not be above. If both become less, the limit has to be first, and this fails.
		_ = update(specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: set.Memory.Swap}})
	}
	err := update(set)
	failed, is := errors.AsType[*CommandError](err)
	if !is {
		return err
	}
	refused := *failed.Fault
	refused.Reason = strings.Join(u.Fields, ", ") + ": " + refused.Reason
	if !failed.Missing && refused.Kind == fault.Internal {
		// What is refused here could be set elsewhere, or later.
		refused.Kind = fault.Precondition
	}
	return &refused
}

// record makes the change in the bundle, unless somebody has removed that, and returns how
// to take it back.
func record(bundle string, u Update) (undo func() error, err error) {
	spec, err := readConfig(bundle)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	if spec.Linux == nil || spec.Linux.Resources == nil || spec.Process == nil {
		return nil, fmt.Errorf("update the bundle %s: its config.json has no resources", bundle)
	}
	before := *spec
	linux, process := *spec.Linux, *spec.Process
	resources := laidOver(*spec.Linux.Resources, u.Set)
	linux.Resources, spec.Linux, spec.Process = &resources, &linux, &process
	if u.OOMScoreAdj != nil {
		process.OOMScoreAdj = u.OOMScoreAdj
	}
	return func() error { return writeConfig(bundle, &before) }, writeConfig(bundle, spec)
}

// laidOver returns limits with what a change sets. What the change does not name stays,
// whoever has set it.
func laidOver(before, set specs.LinuxResources) specs.LinuxResources {
	now := before
	if set.CPU != nil {
		cpu := specs.LinuxCPU{}
		if before.CPU != nil {
			cpu = *before.CPU
		}
		cpu.Shares, cpu.Period, cpu.Quota = cmp.Or(set.CPU.Shares, cpu.Shares), cmp.Or(set.CPU.Period, cpu.Period), cmp.Or(set.CPU.Quota, cpu.Quota)
		cpu.Cpus, cpu.Mems = cmp.Or(set.CPU.Cpus, cpu.Cpus), cmp.Or(set.CPU.Mems, cpu.Mems)
		now.CPU = &cpu
	}
	if set.Memory != nil {
		memory := specs.LinuxMemory{}
		if before.Memory != nil {
			memory = *before.Memory
		}
		memory.Limit, memory.Swap = cmp.Or(set.Memory.Limit, memory.Limit), cmp.Or(set.Memory.Swap, memory.Swap)
		now.Memory = &memory
	}
	now.HugepageLimits = slices.Clone(before.HugepageLimits)
	for _, h := range set.HugepageLimits {
		now.HugepageLimits = slices.DeleteFunc(now.HugepageLimits, func(was specs.LinuxHugepageLimit) bool { return was.Pagesize == h.Pagesize })
		now.HugepageLimits = append(now.HugepageLimits, h)
	}
	if len(set.Unified) > 0 {
		now.Unified = map[string]string{}
		maps.Copy(now.Unified, before.Unified)
		maps.Copy(now.Unified, set.Unified)
	}
	return now
}
