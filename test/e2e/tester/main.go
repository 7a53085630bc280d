// Command tester is what the e2e tests run where busybox isn't enough: in containers, to
// report what a process there really has, and as a CNI plugin that fails at will.
//
//	tester report          print what the process has, as JSON
//	tester serve ADDRESS   answer HTTP with the report, until SIGTERM: then exit 3
//	tester get URL         print what a server answers
//	tester count           print 0, 1, 2 … to stdout, one every 5 ms
//	tester term CODE       end with CODE at SIGTERM; -1 ignores it
//	tester flood BYTES     print that many bytes, without a newline
//	tester await FILE CODE end with CODE once FILE exists
//	tester echo ADDRESS    answer TCP with what comes, until its end; a first byte of "r"
//	                       is answered with a reset, one of "s" with zeros without end
//	tester xattr FILE NAME print an extended attribute, in hexadecimal
//	tester hugepages COUNT use huge pages of 2 MB
//	tester keyring         print the SELinux label of the session's keyring
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if command := os.Getenv("CNI_COMMAND"); command != "" {
		plugin(command)
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tester:", err)
		os.Exit(125)
	}
}

func run(args []string) error {
	arg := func(n int) string {
		if n < len(args) {
			return args[n]
		}
		return ""
	}
	switch arg(0) {
	case "report":
		return json.NewEncoder(os.Stdout).Encode(report())
	case "serve":
		go func() {
			if err := term("3"); err != nil {
				fmt.Fprintln(os.Stderr, "tester:", err)
			}
		}()
		return http.ListenAndServe(arg(1), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			json.NewEncoder(w).Encode(report())
		}))
	case "get":
		client := http.Client{Timeout: 20 * time.Second}
		answer, err := client.Get(arg(1))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(os.Stdout, answer.Body)
		return err
	case "echo":
		return echo(arg(1))
	case "count":
		for n := 0; ; n++ {
			fmt.Println(n)
			time.Sleep(5 * time.Millisecond)
		}
	case "term":
		return term(arg(1))
	case "flood":
		return flood(arg(1))
	case "numbers":
		return numbers(arg(1), arg(2))
	case "await":
		for {
			if _, err := os.Stat(arg(1)); err == nil {
				return exit(arg(2))
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "xattr":
		return xattr(arg(1), arg(2))
	case "hugepages":
		return hugepages(arg(1))
	case "keyring":
		return keyring()
	}
	return fmt.Errorf("no such command: %q", args)
}

func xattr(path, name string) error {
	value := make([]byte, 1024)
	size, err := syscall.Getxattr(path, name, value)
	if err != nil {
		return fmt.Errorf("read %s of %s: %w", name, path, err)
	}
	fmt.Printf("%x\n", value[:size])
	return nil
}

// hugepages ends by a signal where the pages are promised and then missing.
func hugepages(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	const page = 2 << 20
	memory, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB|unix.MAP_HUGE_2MB)
	if err != nil {
		return fmt.Errorf("map %d huge pages: %w", n, err)
	}
	for i := range n {
		memory[i*page] = 1
	}
	return nil
}

func keyring() error {
	label := make([]byte, 1024)
	size, err := unix.KeyctlBuffer(unix.KEYCTL_GET_SECURITY, unix.KEY_SPEC_SESSION_KEYRING, label, 0)
	if err != nil {
		return fmt.Errorf("ask for the label of the session's keyring: %w", err)
	}
	fmt.Println(strings.TrimRight(string(label[:size]), "\x00"))
	return nil
}

func exit(code string) error {
	n, err := strconv.Atoi(code)
	if err != nil {
		return err
	}
	os.Exit(n)
	return nil
}

func term(code string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("ready")
	for range signals {
		fmt.Println("terminated")
		if code != "-1" {
			return exit(code)
		}
	}
	return nil
}

// numbers writes the numbers below count, a line each, in pieces as they come: now
// and then a line in two parts, a long one, or many at once. Then it ends with code.
func numbers(count, code string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for i := range n {
		line := fmt.Sprintf("%d\n", i)
		if i%97 == 96 {
			line = fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 20_000))
		}
		cut := len(line)
		if i%13 == 12 {
			cut = i % len(line)
		}
		for _, part := range []string{line[:cut], line[cut:]} {
			if _, err := os.Stdout.WriteString(part); err != nil {
				return err
			}
		}
		if i%50 == 49 {
			time.Sleep(time.Duration(i%7) * 5 * time.Millisecond)
		}
	}
	return exit(code)
}

func flood(bytes string) error {
	left, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	for ; left > 0; left-- {
		if err := w.WriteByte('x'); err != nil {
			return err
		}
	}
	return w.Flush()
}

// Report is what a process has.
type Report struct {
	Args, Env, Mounts []string
	Dir, Hostname     string
	PID, UID, GID     int
	Groups            []int
	// Status is /proc/self/status, as a map.
	Status map[string]string
	// Namespaces are the links of /proc/self/ns.
	Namespaces  map[string]string
	OOMScoreAdj string
}

func report() Report {
	r := Report{
		Args: os.Args, Env: os.Environ(), PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		Status: map[string]string{}, Namespaces: map[string]string{},
	}
	r.Dir, _ = os.Getwd()
	r.Hostname, _ = os.Hostname()
	r.Groups, _ = os.Getgroups()
	for line := range strings.Lines(read("/proc/self/status")) {
		key, value, _ := strings.Cut(line, ":")
		r.Status[key] = strings.TrimSpace(value)
	}
	for line := range strings.Lines(read("/proc/self/mounts")) {
		r.Mounts = append(r.Mounts, strings.TrimSpace(line))
	}
	for _, ns := range []string{"pid", "net", "ipc", "uts", "mnt", "user", "cgroup"} {
		r.Namespaces[ns], _ = os.Readlink("/proc/self/ns/" + ns)
	}
	r.OOMScoreAdj = strings.TrimSpace(read("/proc/self/oom_score_adj"))
	return r
}

func read(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}

// Annotations by which a pod makes a chained plugin with that capability misbehave: the ADD
// waits until there is a file, or the result has an address of the node's side in front of
// the pod's.
const (
	annotationWaits   = "flaky/waits-for"
	annotationAddress = "flaky/address"
)

// plugin is a chained CNI plugin that does nothing, fails for the commands in the file
// "failures" of its configuration, and copies its input for GC to the file "collected".
// It does what the pod's annotations say.
func plugin(command string) {
	var config struct {
		CNIVersion string          `json:"cniVersion"`
		Failures   string          `json:"failures"`
		Collected  string          `json:"collected"`
		PrevResult json.RawMessage `json:"prevResult"`
		Runtime    struct {
			Annotations map[string]string `json:"io.kubernetes.cri.pod-annotations"`
		} `json:"runtimeConfig"`
	}
	input, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = json.Unmarshal(input, &config)
	}
	if command == "VERSION" {
		fmt.Println(`{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`)
		return
	}
	failures, readErr := os.ReadFile(config.Failures)
	switch {
	case err != nil:
	case readErr != nil && !os.IsNotExist(readErr):
		err = readErr
	case bytes.Contains(failures, []byte(command)):
		err = fmt.Errorf("flaky was told to fail %s", command)
	case command == "GC" && config.Collected != "":
		err = os.WriteFile(config.Collected, input, 0o644)
	}
	if err != nil {
		json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": config.CNIVersion, "code": 100, "msg": err.Error()})
		os.Exit(1)
	}
	if command != "ADD" {
		return
	}
	if file := config.Runtime.Annotations[annotationWaits]; file != "" {
		await(file)
	}
	if address := config.Runtime.Annotations[annotationAddress]; address != "" {
		config.PrevResult = withAddress(config.PrevResult, address)
	}
	os.Stdout.Write(config.PrevResult)
}

// await waits for a file, but not for ever if the test is gone.
func await(file string) {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
}

// withAddress puts an address in front, of an interface that has no sandbox.
func withAddress(result []byte, address string) []byte {
	var all map[string]any
	if err := json.Unmarshal(result, &all); err != nil {
		return result
	}
	interfaces, _ := all["interfaces"].([]any)
	ips, _ := all["ips"].([]any)
	all["interfaces"] = append(interfaces, map[string]any{"name": "of-the-node"})
	all["ips"] = append([]any{map[string]any{"address": address, "interface": len(interfaces)}}, ips...)
	changed, err := json.Marshal(all)
	if err != nil {
		return result
	}
	return changed
}

// echo serves TCP connections.
func echo(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			first := make([]byte, 1)
			if _, err := io.ReadFull(conn, first); err != nil {
				return
			}
			switch first[0] {
			case 'r':
				conn.(*net.TCPConn).SetLinger(0)
			case 's':
				for zeros := make([]byte, 64<<10); err == nil; {
					_, err = conn.Write(zeros)
				}
			default:
				if _, err := conn.Write(first); err == nil {
					io.Copy(conn, conn)
				}
			}
		}()
	}
}
