package kubelet

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
)

func logs(n *node) {
	p := n.run(withScratch(manifest("logs", n.shell("main",
		`if [ -e /share/again ]; then echo second life; else touch /share/again; echo first life; echo oops >&2; exit 1; fi
		 echo one; echo two; until [ -e /share/go ]; do sleep 0.1; done; echo three; while :; do sleep 1; done`))))
	p.wait("runs again", func(s core.PodStatus) bool {
		c := container(s, "main")
		return c.RestartCount == 1 && c.State.Running != nil
	})
	p.waitLog("main", "two\n")
	same(n.t, "log", p.log("main", nil), "second life\none\ntwo\n")
	same(n.t, "previous log", sorted(p.log("main", url.Values{"previous": {"true"}})), "first life\noops\n")
	same(n.t, "tail of the log", p.log("main", url.Values{"tailLines": {"1"}}), "two\n")

	follow := n.follow(p, "main", url.Values{"follow": {"true"}, "tailLines": {"0"}})
	after := time.Now().UTC().Add(time.Second).Truncate(time.Second)
	n.until("the time is a second later", func() error {
		if time.Now().Before(after) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	p.exec("main", "touch", "/share/go")
	line, err := follow.ReadString('\n')
	if err != nil || line != "three\n" {
		n.t.Errorf("following gives %q, %v", line, err)
	}
	same(n.t, "log since a time", p.log("main", url.Values{"sinceTime": {after.Format(time.RFC3339)}}), "three\n")
	stamp, _, _ := strings.Cut(p.log("main", url.Values{"timestamps": {"true"}, "tailLines": {"1"}}), " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || at.Before(after) {
		n.t.Errorf("the last line's time is %q, %v", stamp, err)
	}
}

// follow opens a container's log as it grows.
func (n *node) follow(p *pod, container string, query url.Values) *bufio.Reader {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		kubeletURL+"/containerLogs/"+namespace+"/"+p.name+"/"+container+"?"+query.Encode(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: client.Transport}).Do(request)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		n.t.Fatalf("follow the log: %s", answer.Status)
	}
	return bufio.NewReader(answer.Body)
}

func sorted(text string) string {
	lines := strings.SplitAfter(text, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "")
}

// rotation: the kubelet rotates a log that is written fast; in what it keeps no line is missing,
// torn or twice.
func rotation(n *node) {
	p := n.run(manifest("rotation", n.shell("main",
		"i=0; until [ -e /tmp/stop ]; do seq $((i+1)) $((i+2000)); i=$((i+2000)); sleep 0.1; done; touch /tmp/stopped; while :; do sleep 1; done")))
	dir := filepath.Dir(n.ContainerStatus(p.containerID("main")).LogPath)
	n.until("the log was rotated twice", func() error {
		files, err := filepath.Glob(filepath.Join(dir, "0.log.*"))
		if err == nil && (len(files) < 2 || !strings.HasSuffix(files[0], ".gz")) {
			err = fmt.Errorf("there are %v", files)
		}
		return err
	})
	p.exec("main", "sh", "-c", "touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.1; done")
	// The kubelet may yet rotate and compress.
	n.until("the log is whole", func() error {
		numbers, err := rotatedLines(dir)
		if err != nil {
			return err
		}
		for i, number := range numbers[1:] {
			if number != numbers[i]+1 {
				return fmt.Errorf("after %d comes %d", numbers[i], number)
			}
		}
		if last := numbers[len(numbers)-1]; last%2000 != 0 {
			return fmt.Errorf("it ends with %d", last)
		}
		return nil
	})
	if last := p.log("main", url.Values{"tailLines": {"1"}}); !strings.HasSuffix(last, "000\n") {
		n.t.Errorf("the last line is %q", last)
	}
}

// rotatedLines are the messages in a log's files, the oldest first.
func rotatedLines(dir string) (numbers []int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "0.log*"))
	if err != nil {
		return nil, err
	}
	// 0.log is the newest, and the others have their time in their names.
	sort.Strings(files)
	if len(files) == 0 || filepath.Base(files[0]) != "0.log" {
		return nil, fmt.Errorf("there are %v", files)
	}
	files = append(files[1:], files[0])
	for _, file := range files {
		if strings.HasSuffix(file, ".tmp") {
			return nil, fmt.Errorf("%s is being compressed", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file, ".gz") {
			unpacked, err := gzip.NewReader(bytes.NewReader(content))
			if err != nil {
				return nil, err
			}
			if content, err = io.ReadAll(unpacked); err != nil {
				return nil, err
			}
		}
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) != 4 || !strings.HasSuffix(line, "\n") {
				return nil, fmt.Errorf("%s has the line %q", file, line)
			}
			number, err := strconv.Atoi(fields[3])
			if err != nil {
				return nil, fmt.Errorf("%s has the line %q", file, line)
			}
			numbers = append(numbers, number)
		}
	}
	return numbers, nil
}
