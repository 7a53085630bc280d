package vm

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stele-runtime/stele/test/vm/ask"
)

// bootWithin bounds a boot. Under emulation one takes 15 to 40 s.
const bootWithin = 5 * time.Minute

// Machine is a guest that runs.
type Machine struct {
	qemu *exec.Cmd
	// ended is closed once QEMU has.
	ended chan struct{}
	// console is a file with what the kernel and systemd print.
	console string
	port    net.Conn
	replies *json.Decoder
}

// errRebooted is the end of a command that rebooted the guest, which takes commands again.
var errRebooted = errors.New("the guest has rebooted")

// Options say what a machine is given.
type Options struct {
	// Files are carried to /payload, by name there; the agent is one of them.
	Files map[string]string
	// KernelArgs are added to the kernel's command line.
	KernelArgs string
	// Dir is for the machine's files while it runs.
	Dir string
}

// Boot starts the guest and waits until it takes commands. The guest ends with ctx, or by
// End. The processor is emulated, which is 10 to 20 times slower; STELE_VM_ACCEL=kvm uses the
// machine's own.
func Boot(ctx context.Context, g Guest, o Options) (*Machine, error) {
	payload := filepath.Join(o.Dir, "payload.tar")
	if err := pack(payload, o.Files); err != nil {
		return nil, fmt.Errorf("pack what the guest gets: %w", err)
	}
	socket := filepath.Join(o.Dir, "port")
	m := &Machine{console: filepath.Join(o.Dir, "console"), ended: make(chan struct{})}
	args := []string{
		"-machine", "q35", "-smp", "2", "-m", "3072", "-nodefaults", "-no-user-config", "-display", "none",
		"-kernel", g.Kernel, "-initrd", g.Initrd,
		"-append", "console=ttyS0 root=/dev/vda rw panic=-1 mitigations=off nokaslr no_timer_check cryptomgr.notests " + o.KernelArgs,
		// Writes go to a temporary file, which lasts until QEMU ends: reboots keep them.
		"-drive", "if=none,id=root,format=raw,snapshot=on,cache=unsafe,file=" + g.Disk, "-device", "virtio-blk-pci,drive=root",
		"-drive", "if=none,id=payload,format=raw,readonly=on,file=" + payload, "-device", "virtio-blk-pci,drive=payload,serial=payload",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-chardev", "socket,id=port,server=on,wait=off,path=" + socket, "-device", "virtserialport,chardev=port,name=" + ask.Port,
		"-chardev", "file,id=console,path=" + m.console, "-serial", "chardev:console",
	}
	// KVM is there on many machines that are virtual themselves, and fails on some.
	if accel := os.Getenv("STELE_VM_ACCEL"); accel == "" {
		args = append(args, "-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max")
	} else {
		args = append(args, "-accel", accel, "-cpu", "host")
	}
	m.qemu = exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	// A test binary that is killed, or out of time, leaves no guest behind.
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr := &strings.Builder{}
	m.qemu.Stderr = stderr
	if err := m.qemu.Start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	go func() {
		_ = m.qemu.Wait() // however it ended, it is gone
		close(m.ended)
	}()
	err := m.connect(socket)
	if err == nil {
		err = m.waitUp()
	}
	if err != nil {
		m.End()
		return nil, fmt.Errorf("boot the guest: %w\n%s%s", err, stderr, m.Console())
	}
	return m, nil
}

// connect waits for QEMU to listen on the socket.
func (m *Machine) connect(socket string) (err error) {
	late := time.After(bootWithin)
	for {
		if m.port, err = net.Dial("unix", socket); err == nil {
			m.replies = json.NewDecoder(bufio.NewReader(m.port))
			return nil
		}
		select {
		case <-m.ended:
			return errors.New("QEMU ended at once")
		case <-late:
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// waitUp waits for the agent's first words after a boot.
func (m *Machine) waitUp() error {
	if err := m.port.SetReadDeadline(time.Now().Add(bootWithin)); err != nil {
		return err
	}
	defer func() { _ = m.port.SetReadDeadline(time.Time{}) }()
	for {
		var r ask.Reply
		if err := m.replies.Decode(&r); err != nil {
			return fmt.Errorf("the agent does not answer: %w", err)
		}
		if r.Up {
			return nil
		}
	}
}

// Run runs a command in the guest, with its output to w, and returns its exit code. A guest that
// does not answer within the time, a hanging one, takes no further commands.
func (m *Machine) Run(within time.Duration, w io.Writer, env []string, args ...string) (int, error) {
	if err := m.port.SetDeadline(time.Now().Add(within)); err != nil {
		return -1, err
	}
	defer func() { _ = m.port.SetDeadline(time.Time{}) }()
	if err := json.NewEncoder(m.port).Encode(ask.Command{Args: args, Env: env}); err != nil {
		return -1, fmt.Errorf("ask the guest: %w", err)
	}
	for {
		var r ask.Reply
		if err := m.replies.Decode(&r); errors.Is(err, os.ErrDeadlineExceeded) {
			return -1, fmt.Errorf("the guest has not answered for %s; it said:\n%s", within, m.Console())
		} else if err != nil {
			return -1, fmt.Errorf("the guest's answer: %w", err)
		}
		switch {
		case r.Up:
			return -1, errRebooted
		case r.Failure != "":
			return -1, errors.New(r.Failure)
		case r.Ended:
			return r.Code, nil
		}
		if _, err := w.Write(r.Output); err != nil {
			return -1, err
		}
	}
}

// Console returns the end of what the kernel and systemd printed.
func (m *Machine) Console() string {
	content, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-4096):])
}

// End ends the machine at once.
func (m *Machine) End() {
	if m.port != nil {
		_ = m.port.Close()
	}
	_ = m.qemu.Process.Kill() // it can have ended
	<-m.ended
}

// pack writes a tar of files, by name.
func pack(path string, files map[string]string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	for name, source := range files {
		if err := add(archive, name, source); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return out.Close()
}

func add(archive *tar.Writer, name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(archive, in)
	return err
}
