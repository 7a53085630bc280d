package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/stele-runtime/stele/actors/container"
	"github.com/stele-runtime/stele/actors/id"
)

// world is the node: what survives the daemon. Every resource is keyed by the id
// of its owner, and each function finds what an earlier call of it left.
type world struct {
	rand *rand.Rand
	// broken is the share of effects that fail, in percent; some of them have done
	// their work, or a part of it, all the same.
	broken int
	boot   int
	pods   map[id.Sandbox]*pod
	boxes  map[id.Container]*box
	// journal holds the exits that the monitor saw and the daemon did not yet
	// acknowledge, oldest first.
	journal []*exit
	// images are those in the store; pulled are the pulls that were carried out.
	images  map[string]bool
	pulled  map[id.Pull]bool
	lastPID int
	// wrong lists what should not have happened.
	wrong []string
}

// pod is what a sandbox has on the node.
type pod struct {
	// dirs survive a reboot, the namespaces don't; the address is kept in files by
	// the network plugin.
	dirs, namespaces, address bool
	detachTried               bool
	holder                    *process
}

// box is what a container has on the node.
type box struct {
	sandbox id.Sandbox
	rootfs  bool
	init    *process // as the runtime remembers it; nil if it has no container
	started bool
	// shared: init's PID namespace is the pod's. Then others of its processes, which its
	// program starts, live on when it ends.
	shared, others bool
	execs          map[id.Exec]bool
	// update is the last one that was carried out; limits are what it left.
	update uint64
	limits string
	// unknown: it is not recorded yet that the update was carried out. It never will be if
	// the daemon dies, and the next one's try fails.
	unknown bool
}

type process struct {
	pid   int
	alive bool
	// code is what the kernel reported when it ended.
	code int
}

// exit is a line of the monitor's journal.
type exit struct {
	container id.Container
	sandbox   id.Sandbox
	process   container.Process
	code      int
	// unknown is why nobody knows the code.
	unknown string
}

func (p *process) identity() container.Process {
	return container.Process{PID: p.pid, StartTime: uint64(p.pid)}
}

var errBroken = errors.New("the node is having a bad day")

func newWorld(r *rand.Rand) *world {
	return &world{
		rand: r, boot: 1, pods: map[id.Sandbox]*pod{}, boxes: map[id.Container]*box{},
		images: map[string]bool{}, pulled: map[id.Pull]bool{},
	}
}

func (w *world) violation(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// attempt does the work, or fails with or without having done it.
func (w *world) attempt(work func()) error {
	if w.rand.IntN(100) >= w.broken {
		work()
		return nil
	}
	if w.rand.IntN(2) == 0 {
		work()
	}
	return errBroken
}

func (w *world) pod(s id.Sandbox) *pod {
	if w.pods[s] == nil {
		w.pods[s] = &pod{}
	}
	return w.pods[s]
}

func (w *world) box(c id.Container) *box {
	if w.boxes[c] == nil {
		w.boxes[c] = &box{execs: map[id.Exec]bool{}}
	}
	return w.boxes[c]
}

func (w *world) spawn() *process {
	w.lastPID++
	return &process{pid: w.lastPID, alive: true}
}

// The sandbox's effects.

func (w *world) prepare(s id.Sandbox) error {
	return w.attempt(func() { w.pod(s).dirs, w.pod(s).namespaces = true, true })
}

func (w *world) attach(s id.Sandbox) error {
	if !w.pod(s).namespaces {
		w.violation("network of %s attached to a namespace that isn't there", s)
	}
	return w.attempt(func() { w.pod(s).address = true })
}

func (w *world) startHolder(s id.Sandbox) (int, error) {
	if !w.pod(s).namespaces {
		w.violation("holder of %s started in namespaces that aren't there", s)
	}
	p := w.pod(s)
	err := w.attempt(func() {
		if p.holder == nil {
			p.holder = w.spawn()
		}
	})
	if err != nil {
		return 0, err
	}
	return p.holder.pid, nil
}

func (w *world) stopHolder(s id.Sandbox) error {
	return w.attempt(func() {
		w.killHolder(s, 137)
		w.pod(s).holder = nil
	})
}

func (w *world) detach(s id.Sandbox) error {
	return w.attempt(func() { w.pod(s).address = false })
}

func (w *world) release(s id.Sandbox) error {
	p := w.pod(s)
	if p.holder != nil {
		w.violation("%s released under its holder", s)
	}
	if p.address && !p.detachTried {
		w.violation("%s released before its network was detached", s)
	}
	for c, b := range w.boxes {
		if b.sandbox == s && (b.rootfs || b.init != nil) {
			w.violation("%s released under container %s", s, c)
		}
	}
	return w.attempt(func() { p.dirs, p.namespaces = false, false })
}

// The container's effects.

func (w *world) prepareRootfs(c id.Container, s id.Sandbox) error {
	if !w.pod(s).dirs {
		w.violation("root file system of %s made in pod %s, which isn't there", c, s)
	}
	w.box(c).sandbox = s
	return w.attempt(func() { w.box(c).rootfs = true })
}

func (w *world) createRuntime(c id.Container, needsHolder bool) (container.Process, error) {
	b := w.box(c)
	p := w.pod(b.sandbox)
	if !b.rootfs || !p.namespaces {
		w.violation("container %s created without root file system or namespaces", c)
	}
	if needsHolder && (p.holder == nil || !p.holder.alive) {
		return container.Process{}, errors.New("the pod's init is gone")
	}
	err := w.attempt(func() {
		if b.init == nil {
			b.init, b.shared = w.spawn(), needsHolder
		}
	})
	if err != nil {
		return container.Process{}, err
	}
	return b.init.identity(), nil
}

func (w *world) startRuntime(c id.Container) error {
	b := w.box(c)
	switch {
	case b.init == nil:
		w.violation("container %s started before it was created", c)
		return errBroken
	case b.started:
		return nil
	case !b.init.alive:
		return errors.New("the container's init is gone")
	}
	return w.attempt(func() { b.started, b.others = true, b.shared })
}

func (w *world) signal(c id.Container) error {
	return w.attempt(func() {
		if w.rand.IntN(2) == 0 {
			w.endInit(c, 0)
		}
	})
}

func (w *world) kill(c id.Container) error {
	return w.attempt(func() { w.endAll(c) })
}

// endAll ends every process of a container.
func (w *world) endAll(c id.Container) {
	w.endInit(c, 137)
	w.box(c).others = false
}

func (w *world) exec(c id.Container, x id.Exec) error {
	b := w.box(c)
	if b.init == nil || !b.init.alive || !b.started {
		return errors.New("the container doesn't run")
	}
	if b.execs[x] {
		w.violation("command %s was run twice in %s", x, c)
	}
	b.execs[x] = true
	return w.attempt(func() {})
}

// update sets limits. Unlike other effects it fails without having done anything: the
// runtime takes back what it did.
func (w *world) update(c id.Container, update uint64, limits string) error {
	b := w.box(c)
	switch {
	case b.init == nil || !b.init.alive:
		return errors.New("the container has ended")
	case update < b.update:
		w.violation("update %d of %s carried out after update %d", update, c, b.update)
	case w.rand.IntN(100) < w.broken:
		return errBroken
	}
	b.update, b.limits, b.unknown = update, limits, true
	return nil
}

func (w *world) deleteRuntime(c id.Container) error {
	return w.attempt(func() {
		w.endAll(c)
		w.box(c).init = nil
	})
}

func (w *world) releaseRootfs(c id.Container) error {
	if w.box(c).init != nil {
		w.violation("root file system of %s taken away under it", c)
	}
	return w.attempt(func() { w.box(c).rootfs = false })
}

// fetch pulls an image, which nothing repeats.
func (w *world) fetch(ref string, p id.Pull) error {
	if w.pulled[p] {
		w.violation("%s was pulled twice", p)
	}
	w.pulled[p] = true
	return w.attempt(func() { w.images[ref] = true })
}

// What happens by itself.

func (w *world) acknowledge(x *exit) {
	w.journal = slices.DeleteFunc(w.journal, func(other *exit) bool { return other == x })
}

// monitorDies takes its memory away while no daemon is there: processes that end before
// the next monitor finds them end unseen.
func (w *world) monitorDies(ends func() bool) {
	for _, c := range sortedKeys(w.boxes) {
		p := w.boxes[c].init
		if p == nil || !p.alive || !ends() {
			continue
		}
		p.alive, p.code = false, -1
		w.journal = append(w.journal, &exit{container: c, process: p.identity(), code: -1, unknown: "it ended while nobody watched"})
	}
}

// endInit ends a container's init; the monitor sees it.
func (w *world) endInit(c id.Container, code int) {
	if p := w.box(c).init; p != nil && p.alive {
		p.alive, p.code = false, code
		w.journal = append(w.journal, &exit{container: c, process: p.identity(), code: code})
	}
}

// killHolder ends a pod's holder, and the kernel every process of its namespace.
func (w *world) killHolder(s id.Sandbox, code int) {
	p := w.pod(s).holder
	if p == nil || !p.alive {
		return
	}
	p.alive, p.code = false, code
	w.journal = append(w.journal, &exit{sandbox: s, code: code})
	for _, c := range sortedKeys(w.boxes) {
		if w.boxes[c].sandbox == s {
			w.endAll(c)
		}
	}
}

// reboot takes away what lives in the kernel or in a tmpfs: processes, what the
// runtime and the monitor know of them, and namespaces.
func (w *world) reboot() {
	w.boot++
	w.journal = nil
	for _, p := range w.pods {
		p.namespaces, p.holder = false, nil
	}
	for _, b := range w.boxes {
		b.init, b.others = nil, false
	}
}

// left lists what is on the node.
func (w *world) left() []string {
	var left []string
	for _, s := range sortedKeys(w.pods) {
		p := w.pods[s]
		if p.dirs || p.namespaces || p.address || p.holder != nil {
			left = append(left, fmt.Sprintf("pod %s: directories %t, namespaces %t, address %t, holder %t",
				s, p.dirs, p.namespaces, p.address, p.holder != nil))
		}
	}
	for _, c := range sortedKeys(w.boxes) {
		if b := w.boxes[c]; b.rootfs || b.init != nil {
			left = append(left, fmt.Sprintf("container %s: root file system %t, runtime %t", c, b.rootfs, b.init != nil))
		}
	}
	return left
}

// lives reports whether a process of the pod is alive.
func (w *world) lives(s id.Sandbox) bool {
	if p := w.pod(s).holder; p != nil && p.alive {
		return true
	}
	for _, b := range w.boxes {
		if b.sandbox == s && (b.others || b.init != nil && b.init.alive) {
			return true
		}
	}
	return false
}
