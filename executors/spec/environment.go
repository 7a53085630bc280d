package spec

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/stele-runtime/stele/executors/spec/refusal"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// planEnvironment merges, later ones replacing earlier ones: the node's defaults,
// the image's and the pod's.
func planEnvironment(r *request, plan *Plan) error {
	env := environment{at: map[string]int{}}
	env.set("PATH", defaultPath)
	if r.Container.Tty {
		env.set("TERM", "xterm")
	}
	if isInit(r.args()) {
		// By this it knows that it boots no machine; the name is the one for any runtime.
		env.set("container", "oci")
	}
	name, err := r.hostname()
	if err != nil {
		return err
	}
	env.set("HOSTNAME", name)
	for _, kv := range append(append([]string{}, r.Options.Env...), r.image.Env...) {
		// An entry without a value sets nothing.
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			continue
		}
		if err := checkEnv("the image's environment", key, value); err != nil {
			return err
		}
		env.set(key, value)
	}
	for _, kv := range r.Container.Envs {
		env.set(kv.Key, string(kv.Value))
	}
	plan.Spec.Process.Env = env.list
	return nil
}

// hostname is the container's: a pod that has no name of its own has the node's.
func (r *request) hostname() (string, error) {
	if name := r.Sandbox.GetHostname(); name != "" {
		return name, nil
	}
	name := r.found.Hostname
	if name.Err == nil && name.Value == "" {
		return "", refusal.Unanswered("hostname")
	}
	if name.Err != nil {
		return "", fmt.Errorf("read the node's host name: %w", name.Err)
	}
	return name.Value, nil
}

// environment keeps the order in which variables were first set.
type environment struct {
	list []string
	at   map[string]int
}

func (e *environment) set(key, value string) {
	if i, ok := e.at[key]; ok {
		e.list[i] = key + "=" + value
		return
	}
	e.at[key] = len(e.list)
	e.list = append(e.list, key+"="+value)
}

// checkEnv refuses what can't be passed on as it is. Values are not shown: they
// may be secrets.
func checkEnv(field, key, value string) error {
	switch {
	case key == "" || strings.ContainsAny(key, "=\x00"):
		return refusal.Invalid(field, key, "is not a name for a variable")
	case strings.Contains(value, "\x00"):
		return refusal.Invalid(field, key, "has a value with a NUL byte")
	case !utf8.ValidString(key) || !utf8.ValidString(value):
		return refusal.Invalid(field, key, "is not valid UTF-8, which the OCI runtime spec can't carry")
	case key == "HOME" && strings.ContainsAny(value, "\r\n"):
		// Programs write HOME into /etc/passwd, a line for each user
		// (CVE-2022-4318).
		return refusal.Invalid(field, key, "has a value with a line break")
	}
	return nil
}
