package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// bench is a directory with what a complete configuration names.
type bench struct {
	dir string
	t   *testing.T
}

func newBench(t *testing.T) *bench {
	b := &bench{dir: t.TempDir(), t: t}
	for _, program := range []string{"stele-monitor", "runc", "crun"} {
		b.write(program, "#!/bin/sh\n", 0o755)
	}
	b.write("plain", "", 0o644)
	b.write("broken", "{{.PodCIDR", 0o644)
	t.Setenv("PATH", b.dir)
	return b
}

func (b *bench) write(name, content string, mode os.FileMode) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// load returns what a file of that content and the flags say. DIR stands for the bench's
// directory.
func (b *bench) load(content string, args ...string) (Config, error) {
	b.t.Helper()
	path := b.write("config.toml", strings.ReplaceAll(content, "DIR", b.dir), 0o644)
	return b.parse(append([]string{"--config", path}, args...)...)
}

func (b *bench) parse(args ...string) (Config, error) {
	b.t.Helper()
	var flags Flags
	set := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.Register(set)
	if err := set.Parse(args); err != nil {
		b.t.Fatal(err)
	}
	return flags.Load(set)
}

// refusals are values that cannot work, by key: what the file says, and the error.
var refusals = []struct{ key, content, want string }{
	{"root", `root = ""`, `root: "" is not a path`},
	{"root", `root = "/"`, `root: "/" is the file system's root, and the directory must be the daemon's alone`},
	{"state", `state = ""`, `state: "" is not a path`},
	{"state", `state = "/var/lib/stele/"`, `state: "/var/lib/stele" is the same directory as root, which must survive a reboot`},
	{"listen", `listen = "tcp://127.0.0.1:1"`, `listen: "tcp://127.0.0.1:1" is not unix:///PATH`},
	{"listen", `listen = "unix://stele.sock"`, `listen: "unix://stele.sock" is not unix:///PATH`},
	{"listen", `listen = "unix:///` + strings.Repeat("x", 107) + `"`,
		`listen: "unix:///` + strings.Repeat("x", 107) + `" has a path of 108 bytes; a socket's path has at most 107`},
	{"monitor", `monitor = "DIR/none"`, `monitor: "DIR/none" cannot be run: stat DIR/none: no such file or directory`},
	{"monitor", `monitor = "DIR/plain"`, `monitor: "DIR/plain" cannot be run: permission denied`},
	{"monitor_cgroup", `monitor_cgroup = "system.slice"`, `monitor_cgroup: "system.slice" is not an absolute, clean path`},
	{"monitor_cgroup", `monitor_cgroup = "/../x"`, `monitor_cgroup: "/../x" is not an absolute, clean path`},
	{"log_level", `log_level = "loud"`, `log_level: "loud" is not debug, info, warn or error`},

	{"network.conf_dir", "[network]\nconf_dir = ''", `network.conf_dir: "" is not a path`},
	{"network.plugin_dirs", "[network]\nplugin_dirs = []", `network.plugin_dirs: "[]" is empty, so that no plugin can be found`},
	{"network.plugin_dirs", "[network]\nplugin_dirs = ['/opt/cni/bin', '']", `network.plugin_dirs[1]: "" is not a path`},
	{"network.plugin_dirs", "[network]\nplugin_dirs = ['/a:/b']", `network.plugin_dirs[0]: "/a:/b" has a colon, which CNI_PATH cannot carry`},
	{"network.conf_template", "[network]\nconf_template = 'net.tmpl'", `network.conf_template: "net.tmpl" is not an absolute path`},
	{"network.conf_template", "[network]\nconf_template = 'DIR/none'", `network.conf_template: "DIR/none" cannot be read: no such file or directory`},
	{"network.conf_template", "[network]\nconf_template = 'DIR/broken'",
		`network.conf_template: "DIR/broken" is no template: template: broken:1: unclosed action`},

	{"runtime.default", "[runtime]\ndefault = 'kata'", `runtime.default: "kata" is not among the handlers`},
	{"runtime.cgroup_driver", "[runtime]\ncgroup_driver = 'cgroupsv3'", `runtime.cgroup_driver: "cgroupsv3" is neither cgroupfs nor systemd`},
	{"runtime.max_log_size", "[runtime]\nmax_log_size = -1", `runtime.max_log_size: -1 is negative`},
	{"runtime.hooks_dir", "[runtime]\nhooks_dir = ['']", `runtime.hooks_dir[0]: "" is not a path`},
	{"runtime.hooks_dir", "[runtime]\nhooks_dir = ['/x', 'hooks.d']", `runtime.hooks_dir[1]: "hooks.d" is not an absolute path`},
	{"runtime.hooks_dir", "[runtime]\nhooks_dir = ['DIR/plain']", `runtime.hooks_dir[0]: "DIR/plain" is not a directory`},
	{"runtime.handlers", "[runtime.handlers.'../x']\npath = 'runc'",
		`runtime.handlers: "../x" is not a handler's name: letters, digits, '_', '.' and '-', at most 63`},
	{"runtime.handlers", "[runtime.handlers.'']\npath = 'runc'",
		`runtime.handlers: "" is not a handler's name: letters, digits, '_', '.' and '-', at most 63`},
	{"runtime.handlers.NAME.path", "[runtime.handlers.kata]\npath = ''", `runtime.handlers.kata.path: "" is not a path`},
	{"runtime.handlers.NAME.platform_runtime_paths", "[runtime.handlers.x]\npath = 'runc'\nplatform_runtime_paths = {wasm = 'crun'}",
		`runtime.handlers.x.platform_runtime_paths: "wasm" is not a platform, as in "wasi/wasm32"`},
	{"runtime.handlers.NAME.platform_runtime_paths", "[runtime.handlers.x]\npath = 'runc'\nplatform_runtime_paths = {'wasi/wasm32' = ''}",
		`runtime.handlers.x.platform_runtime_paths.wasi/wasm32: "" is not a path`},
	{"runtime.handlers.NAME.runtime_type", "[runtime.handlers.kata]\npath = 'kata'\nruntime_type = 'vm'",
		`runtime.handlers.kata.runtime_type: "vm" is not supported; there is oci`},
	{"runtime.handlers.NAME.runtime_root", "[runtime.handlers.crun]\npath = 'crun'\nruntime_root = 'run'",
		`runtime.handlers.crun.runtime_root: "run" is not an absolute path`},
	{"runtime.handlers.NAME.allowed_annotations", "[runtime.handlers.crun]\npath = 'crun'\nallowed_annotations = ['run.oci.*']",
		`runtime.handlers.crun.allowed_annotations[0]: "run.oci.*" is not the key of an annotation`},
	{"runtime.handlers.NAME.default_annotations", "[runtime.handlers.crun]\npath = 'crun'\n[runtime.handlers.crun.default_annotations]\n'a b' = ''",
		`runtime.handlers.crun.default_annotations: "a b" is not the key of an annotation`},
	{"runtime.handlers.NAME.container_min_memory", "[runtime.handlers.crun]\npath = 'crun'\ncontainer_min_memory = 'much'",
		`runtime.handlers.crun.container_min_memory: "much" is not a size, as in "12MiB"`},
	{"runtime.handlers.NAME.privileged_without_host_devices_all_devices_allowed",
		"[runtime.handlers.crun]\npath = 'crun'\nprivileged_without_host_devices_all_devices_allowed = true",
		`runtime.handlers.crun.privileged_without_host_devices_all_devices_allowed: true needs privileged_without_host_devices`},
	{"runtime.handlers.NAME.container_create_timeout", "[runtime.handlers.crun]\npath = 'crun'\ncontainer_create_timeout = -1",
		`runtime.handlers.crun.container_create_timeout: -1 is negative`},
	{"runtime.handlers.NAME.seccomp_profile", "[runtime.handlers.crun]\npath = 'crun'\nseccomp_profile = 'DIR/none'",
		`runtime.handlers.crun.seccomp_profile: "DIR/none" cannot be read: no such file or directory`},

	{"runtime.default_ulimits", "[runtime]\ndefault_ulimits = ['nofile=2:1']", `runtime.default_ulimits[0]: "nofile=2:1" is not a limit, as in "nofile=1024:2048"`},
	{"runtime.pids_limit", "[runtime]\npids_limit = -2", `runtime.pids_limit: -2 is neither a number of processes nor -1, for no limit`},
	{"runtime.default_capabilities", "[runtime]\ndefault_capabilities = ['CHOWN', 'FLY']", `runtime.default_capabilities[1]: "FLY" is not a capability`},
	{"runtime.default_env", "[runtime]\ndefault_env = ['=x']", `runtime.default_env[0]: "=x" is not KEY=VALUE`},
	{"runtime.seccomp_profile", "[runtime]\nseccomp_profile = 'DIR/none'", `runtime.seccomp_profile: "DIR/none" cannot be read: no such file or directory`},
	{"runtime.privileged_seccomp_profile", "[runtime]\nprivileged_seccomp_profile = 'here'",
		`runtime.privileged_seccomp_profile: "here" is not an absolute path`},
	{"runtime.apparmor_profile", "[runtime]\napparmor_profile = 'a b'", `runtime.apparmor_profile: "a b" is not a profile's name`},
	{"runtime.additional_devices", "[runtime]\nadditional_devices = ['/dev/fuse', '/dev/null:/dev/x:rx']",
		`runtime.additional_devices[1]: "/dev/null:/dev/x:rx" has other permissions than r, w and m`},
	{"runtime.allowed_devices", "[runtime]\nallowed_devices = ['/dev/../fuse']", `runtime.allowed_devices[0]: "/dev/../fuse" is not an absolute, clean path`},
	{"runtime.shm_size", "[runtime]\nshm_size = '-1'", `runtime.shm_size: "-1" is not a size, as in "128m"`},
	{"runtime.image_volumes", "[runtime]\nimage_volumes = 'copy'", `runtime.image_volumes: "copy" is neither bind, mkdir nor ignore`},
	{"runtime.absent_mount_sources_to_reject", "[runtime]\nabsent_mount_sources_to_reject = ['etc']",
		`runtime.absent_mount_sources_to_reject[0]: "etc" is not an absolute, clean path`},
	{"runtime.timezone", "[runtime]\ntimezone = '../../etc/passwd'",
		`runtime.timezone: "../../etc/passwd" is not a time zone of this node: a path that leads elsewhere`},
	{"runtime.default_mounts_file", "[runtime]\ndefault_mounts_file = 'DIR/none'", `runtime.default_mounts_file: "DIR/none" cannot be read: no such file or directory`},
	{"runtime.default_mounts_file", "[runtime]\ndefault_mounts_file = 'DIR/broken'",
		`runtime.default_mounts_file: "DIR/broken" is no list of mounts: line 1: "{{.PodCIDR" is not SOURCE:DESTINATION, two absolute paths`},
	{"runtime.bind_mount_prefix", "[runtime]\nbind_mount_prefix = 'host'", `runtime.bind_mount_prefix: "host" is not an absolute path`},
	{"runtime.bind_mount_prefix", "[runtime]\nbind_mount_prefix = 'DIR/none'", `runtime.bind_mount_prefix: "DIR/none" cannot be resolved: no such file or directory`},
	{"runtime.cdi_spec_dirs", "[runtime]\ncdi_spec_dirs = ['DIR/plain']", `runtime.cdi_spec_dirs[0]: "DIR/plain" is not a directory`},

	{"runtime.minimum_mappable_uid", "[runtime]\nminimum_mappable_uid = -2", `runtime.minimum_mappable_uid: -2 is neither an id nor -1`},
	{"runtime.minimum_mappable_gid", "[runtime]\nminimum_mappable_gid = 4294967295", `runtime.minimum_mappable_gid: 4294967295 is neither an id nor -1`},

	{"history.keep_for", "[history]\nkeep_for = '0s'", `history.keep_for: 0s keeps nothing`},
	{"history.keep_for", "[history]\nkeep_for = '-1h'", `history.keep_for: -1h0m0s keeps nothing`},
	{"history.keep_for", "[history]\nkeep_for = 3600\nkeep_settled_for = '1s'", `history.keep_for: 3.6µs is too short; the least is 1s`},
	{"history.keep_pods", "[history]\nkeep_pods = -1", `history.keep_pods: -1 is negative`},
	{"history.keep_settled_for", "[history]\nkeep_settled_for = '-1s'", `history.keep_settled_for: -1s keeps nothing`},
	{"history.keep_settled_for", "[history]\nkeep_settled_for = '200h'", `history.keep_settled_for: 200h0m0s is longer than keep_for, 168h0m0s`},
	{"history.keep_size", "[history]\nkeep_size = '0'", `history.keep_size: "0" is too small; the least is 64MiB`},
	{"history.keep_size", "[history]\nkeep_size = '-1GiB'", `history.keep_size: "-1GiB" is not a size, as in "1GiB"`},
	{"history.keep_size", "[history]\nkeep_size = 'much'", `history.keep_size: "much" is not a size, as in "1GiB"`},
	{"history.keep_size", "[history]\nkeep_size = '1MiB'", `history.keep_size: "1MiB" is too small; the least is 64MiB`},

	{"image.pinned_images", "[image]\npinned_images = ['a*b']", `image.pinned_images: "a*b" has a * that is not at an end`},
	{"image.registries_conf", "[image]\nregistries_conf = 'DIR/none'", `image.registries_conf: "DIR/none" cannot be read: no such file or directory`},
	{"image.registries_conf", "[image]\nregistries_conf = 'DIR'", `image.registries_conf: "DIR" is a directory and not a file`},
	{"image.registries_conf_dir", "[image]\nregistries_conf_dir = 'DIR/plain'", `image.registries_conf_dir: "DIR/plain" is not a directory`},
	{"image.short_name_mode", "[image]\nshort_name_mode = 'on'", `image.short_name_mode: "on" is not enforcing, permissive or disabled`},
	{"image.registries_dir", "[image]\nregistries_dir = 'here'", `image.registries_dir: "here" is not an absolute path`},
	{"image.certs_dir", "[image]\ncerts_dir = 'here'", `image.certs_dir: "here" is not an absolute path`},
	{"image.signature_policy", "[image]\nsignature_policy = 'DIR/none'", `image.signature_policy: "DIR/none" cannot be read: no such file or directory`},
	{"image.signature_policy_dir", "[image]\nsignature_policy_dir = 'DIR/plain'", `image.signature_policy_dir: "DIR/plain" is not a directory`},
	{"image.global_auth_file", "[image]\nglobal_auth_file = 'auth.json'", `image.global_auth_file: "auth.json" is not an absolute path`},
	{"image.namespaced_auth_dir", "[image]\nnamespaced_auth_dir = 'DIR/plain'", `image.namespaced_auth_dir: "DIR/plain" is not a directory`},
	{"image.decryption_keys_path", "[image]\ndecryption_keys_path = 'DIR/plain'", `image.decryption_keys_path: "DIR/plain" is not a directory`},
	{"image.big_files_temporary_dir", "[image]\nbig_files_temporary_dir = 'DIR/plain'", `image.big_files_temporary_dir: "DIR/plain" is not a directory`},
	{"image.pull_progress_timeout", "[image]\npull_progress_timeout = '-1s'", `image.pull_progress_timeout: -1s is negative`},
	{"image.pull_progress_timeout", "[image]\npull_progress_timeout = 60",
		`image.pull_progress_timeout: 60ns is too short for any registry; write a unit, as in "60s"`},
	{"image.pull_retries", "[image]\npull_retries = -1", `image.pull_retries: -1 is negative`},
	{"image.parallel_layers", "[image]\nparallel_layers = -1", `image.parallel_layers: -1 is negative`},

	{"storage.conf", "[storage]\nconf = 'DIR/none'", `storage.conf: "DIR/none" cannot be read: no such file or directory`},
	{"storage.root", "[storage]\nroot = '/a,b'", `storage.root: "/a,b" has a comma or a colon, which overlay mounts cannot carry`},
	{"storage.runroot", "[storage]\nrunroot = 'DIR/plain'", `storage.runroot: "DIR/plain" is not a directory`},
	{"storage.imagestore", "[storage]\nroot = '/a'\nimagestore = '/a'", `storage.imagestore: "/a" is the same directory as storage.root`},
	{"storage.storage_driver", "[storage]\nstorage_driver = 'btrfs'", `storage.storage_driver: "btrfs" is neither overlay nor vfs`},
	{"storage.storage_option", "[storage]\nstorage_option = ['a=b', 'nodev']", `storage.storage_option[1]: "nodev" is not KEY=VALUE`},

	{"nri.nri_listen", "[nri]\nnri_listen = 'nri.sock'", `nri.nri_listen: "nri.sock" is not an absolute path`},
	{"nri.nri_listen", "[nri]\nnri_listen = ''", `nri.nri_listen: "" is not a path, and nri.nri_disable_connections is not set`},
	{"nri.nri_listen", "[nri]\nnri_listen = '/" + strings.Repeat("x", 107) + "'",
		`nri.nri_listen: "/` + strings.Repeat("x", 107) + `" has 108 bytes; a socket's path has at most 107`},
	{"nri.nri_plugin_dir", "[nri]\nnri_plugin_dir = 'DIR/plain'", `nri.nri_plugin_dir: "DIR/plain" is not a directory`},
	{"nri.nri_plugin_config_dir", "[nri]\nnri_plugin_config_dir = 'here'", `nri.nri_plugin_config_dir: "here" is not an absolute path`},
	{"nri.nri_plugin_registration_timeout", "[nri]\nnri_plugin_registration_timeout = 5",
		`nri.nri_plugin_registration_timeout: 5ns is too short for any plug-in; write a unit, as in "2s"`},
	{"nri.nri_plugin_request_timeout", "[nri]\nnri_plugin_request_timeout = '0s'",
		`nri.nri_plugin_request_timeout: 0s is too short for any plug-in; write a unit, as in "2s"`},
	{"nri.default_validator.nri_validator_required_plugins", "[nri.default_validator]\nnri_validator_required_plugins = ['a/b']",
		`nri.default_validator.nri_validator_required_plugins: "a/b" is not a plug-in's name`},
	{"nri.default_validator.nri_validator_tolerate_missing_plugins_annotation",
		"[nri.default_validator]\nnri_validator_tolerate_missing_plugins_annotation = 'a=b'",
		`nri.default_validator.nri_validator_tolerate_missing_plugins_annotation: "a=b" is not the key of an annotation`},

	{"streaming.stream_address", "[streaming]\nstream_address = 'localhost'", `streaming.stream_address: "localhost" is not an IP address`},
	{"streaming.stream_address", "[streaming]\nstream_address = ''", `streaming.stream_address: "" is not an IP address`},
	{"streaming.stream_port", "[streaming]\nstream_port = '65536'", `streaming.stream_port: "65536" is not a port`},
	{"streaming.stream_port", "[streaming]\nstream_port = 'http'", `streaming.stream_port: "http" is not a port`},
	{"streaming.stream_idle_timeout", "[streaming]\nstream_idle_timeout = '-1s'", `streaming.stream_idle_timeout: -1s is negative`},
	{"streaming.stream_idle_timeout", "[streaming]\nstream_idle_timeout = 60",
		`streaming.stream_idle_timeout: 60ns is too short for any client; write a unit, as in "30s"`},
	{"streaming.stream_creation_timeout", "[streaming]\nstream_creation_timeout = '0s'",
		`streaming.stream_creation_timeout: 0s is too short; the least is 1s`},
	{"streaming.stream_enable_tls", "[streaming]\nstream_enable_tls = true\nstream_tls_key = 'DIR/plain'",
		`streaming.stream_enable_tls: true needs stream_tls_cert`},
	{"streaming.stream_tls_cert", "[streaming]\nstream_tls_cert = 'DIR/plain'",
		`streaming.stream_tls_cert: "DIR/plain" has no effect without stream_enable_tls`},
	{"streaming.stream_tls_key", "[streaming]\nstream_enable_tls = true\nstream_tls_cert = 'DIR/plain'\nstream_tls_key = 'DIR/none'",
		`streaming.stream_tls_key: "DIR/none" cannot be read: no such file or directory`},
	{"streaming.stream_tls_ca", "[streaming]\nstream_enable_tls = true\nstream_tls_cert = 'DIR/plain'\nstream_tls_key = 'DIR/plain'\nstream_tls_ca = 'ca'",
		`streaming.stream_tls_ca: "ca" is not an absolute path`},
	{"streaming.tls_min_version", "[streaming]\ntls_min_version = 'TLS1.2'", `streaming.tls_min_version: "TLS1.2" is neither VersionTLS12 nor VersionTLS13`},
	{"streaming.tls_cipher_suites", "[streaming]\ntls_cipher_suites = ['TLS_RSA_WITH_RC4_128_SHA']",
		`streaming.tls_cipher_suites: "TLS_RSA_WITH_RC4_128_SHA" is not a secure cipher suite's name`},
	{"streaming.tls_cipher_suites", "[streaming]\ntls_min_version = 'VersionTLS13'\ntls_cipher_suites = ['TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256']",
		`streaming.tls_cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256] has no effect on TLS 1.3, which tls_min_version requires`},

	{"metrics.listen", "[metrics]\nlisten = '9090'", `metrics.listen: "9090" is not HOST:PORT`},
	{"metrics.listen", "[metrics]\nlisten = 'localhost:99999'", `metrics.listen: "localhost:99999" is not HOST:PORT`},

	{"stats.included_pod_metrics", "[stats]\nincluded_pod_metrics = ['cpu', 'gpu']",
		`stats.included_pod_metrics[1]: "gpu" is not a group of metrics; there are cpu, memory, network, oom, process, spec, disk, diskIO, hugetlb, pressure`},
	{"stats.included_pod_metrics", "[stats]\nincluded_pod_metrics = ['cpu', 'all']",
		`stats.included_pod_metrics[1]: "all" stands for every group, and is not alone`},

	{"backup.interval", "[backup]\ninterval = '-1h'", `backup.interval: -1h0m0s is neither 0, for no backups, nor at least 1m0s`},
	{"backup.interval", "[backup]\ninterval = '1s'", `backup.interval: 1s is neither 0, for no backups, nor at least 1m0s`},
	{"backup.keep", "[backup]\nkeep = 0", `backup.keep: 0 is not from 1 to 100`},
	{"backup.keep", "[backup]\nkeep = 1000000", `backup.keep: 1000000 is not from 1 to 100`},
	{"backup.max_size", "[backup]\nmax_size = '0'", `backup.max_size: "0" is not a size, as in "1GiB"`},
	{"backup.max_size", "[backup]\nmax_size = 'much'", `backup.max_size: "much" is not a size, as in "1GiB"`},
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	for _, r := range refusals {
		_, err := b.load(r.content)
		want := "configuration: " + strings.ReplaceAll(r.want, "DIR", b.dir)
		if err == nil || err.Error() != want {
			t.Errorf("%s\nis refused with %v\nwant %s", r.content, err, want)
		}
	}
}

// Every key has an unusable value, which is refused with the key's name; but for switches, whose
// values are all usable.
func TestEveryKeyIsChecked(t *testing.T) {
	var keys []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for f := range of.Fields() {
			key := prefix + f.Tag.Get("toml")
			switch f.Type.Kind() {
			case reflect.Struct:
				if f.Anonymous {
					walk(prefix, f.Type) // its keys are those of the table
					continue
				}
				walk(key+".", f.Type)
			case reflect.Map:
				keys = append(keys, key)
				if f.Type.Elem().Kind() == reflect.Struct {
					walk(key+".NAME.", f.Type.Elem())
				}
			case reflect.Bool:
			default:
				keys = append(keys, key)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	for _, key := range keys {
		if !slices.ContainsFunc(refusals, func(r struct{ key, content, want string }) bool { return r.key == key }) {
			t.Errorf("no value of %s is refused", key)
		}
	}
}

func TestDefaults(t *testing.T) {
	b := newBench(t)
	c, err := b.load("")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Monitor = filepath.Join(b.dir, "stele-monitor")
	want.Runtime.Default, want.Runtime.Handlers = "runc", map[string]Handler{"runc": {Path: filepath.Join(b.dir, "runc")}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("without a word in it, a file means\n%+v\nwant\n%+v", c, want)
	}
	if c.Socket() != "/run/stele/stele.sock" || c.Level().String() != "INFO" {
		t.Errorf("socket %s, level %s", c.Socket(), c.Level())
	}
}

// Flags override the file, and the file overrides the defaults.
func TestPrecedence(t *testing.T) {
	b := newBench(t)
	c, err := b.load(`
root = "/data/stele"
state = "/run/other"
log_level = "warn"
[network]
plugin_dirs = ["/plugins"]
disable_hostport_mapping = true
[runtime]
default = "crun"
[runtime.handlers.crun]
path = "DIR/crun"
`, "--state", "/run/flag", "--cni-conf-dir", "/etc/flag", "--log-level", "debug")
	if err != nil {
		t.Fatal(err)
	}
	if c.Root != "/data/stele" || c.State != "/run/flag" || c.LogLevel != "debug" || c.Network.ConfDir != "/etc/flag" ||
		!slices.Equal(c.Network.PluginDirs, []string{"/plugins"}) || !c.Network.DisableHostPortMapping || c.Runtime.Default != "crun" || len(c.Runtime.Handlers) != 1 {
		t.Errorf("%+v", c)
	}
	// Handlers on the command line take the place of those in the file.
	c, err = b.load("[runtime.handlers.kata]\npath = '/none'\n", "--runtime", "z=runc", "--runtime", "a=crun")
	if err != nil || c.Runtime.Default != "z" || len(c.Runtime.Handlers) != 2 || c.Runtime.Handlers["a"].Path != filepath.Join(b.dir, "crun") {
		t.Errorf("%+v, %v", c.Runtime, err)
	}
	// What else the file says of them stays.
	c, err = b.load("[runtime.handlers.runc]\nallowed_annotations = ['userns-mode.crio.io']\n", "--runtime", "runc=runc")
	if err != nil || !slices.Equal(c.Runtime.Handlers["runc"].AllowedAnnotations, []string{"userns-mode.crio.io"}) {
		t.Errorf("%+v, %v", c.Runtime, err)
	}
	if _, err = b.load("", "--runtime", "runc"); err == nil || err.Error() != `--runtime "runc" is not NAME=PATH` {
		t.Errorf("a handler without a path: %v", err)
	}
}

// Links on the way to a directory are the operator's: they are resolved once.
func TestLinksAreResolved(t *testing.T) {
	b := newBench(t)
	for _, link := range [][2]string{{"disk", "link"}, {"nowhere", "dangling"}, {"loop", "loop"}} {
		if err := os.Symlink(filepath.Join(b.dir, link[0]), filepath.Join(b.dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.dir, "disk"), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := b.load(`
root = "DIR/link"
state = "DIR/link/not/yet"
[storage]
root = "DIR/link/storage"
runroot = "DIR/link/run"
imagestore = "DIR/link/images"
[image]
signature_policy_dir = "DIR/link/policies"
namespaced_auth_dir = "DIR/link/auth"
decryption_keys_path = "DIR/link/keys"
big_files_temporary_dir = "DIR/link/tmp"
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []struct{ path, want string }{
		{c.Root, ""}, {c.State, "not/yet"}, {c.Storage.Root, "storage"}, {c.Storage.RunRoot, "run"}, {c.Storage.ImageStore, "images"},
		{c.Image.SignaturePolicyDir, "policies"}, {c.Image.NamespacedAuthDir, "auth"}, {c.Image.DecryptionKeysPath, "keys"}, {c.Image.BigFilesTemporaryDir, "tmp"},
	} {
		if want := filepath.Join(b.dir, "disk", got.want); got.path != want {
			t.Errorf("%s is meant, want %s", got.path, want)
		}
	}
	for content, want := range map[string]string{
		`root = "DIR/dangling/x"`:                   `root: "DIR/dangling/x" has a link that leads nowhere: DIR/dangling`,
		`state = "DIR/loop"`:                        `state: "DIR/loop" cannot be resolved: `,
		"root = 'DIR/disk/a'\nstate = 'DIR/link/a'": `state: "DIR/disk/a" is the same directory as root, which must survive a reboot`,
	} {
		want = "configuration: " + strings.ReplaceAll(want, "DIR", b.dir)
		if _, err := b.load(content); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\nis refused with %v\nwant %s", content, err, want)
		}
	}
}

// All problems of a configuration are reported at once.
func TestAllProblemsAtOnce(t *testing.T) {
	b := newBench(t)
	_, err := b.load("listen = ''\nlog_level = ''\n[runtime]\nmax_log_size = -1\n[metrics]\nlisten = 'x'\n")
	for _, key := range []string{"listen: ", "log_level: ", "runtime.max_log_size: ", "metrics.listen: "} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not in %v", key, err)
		}
	}
}

func TestFile(t *testing.T) {
	b := newBench(t)
	if _, err := b.load("colour = 'red'\n[image]\npul_retries = 1\n"); err == nil || !strings.HasSuffix(err.Error(), "config.toml: unknown keys: [colour image.pul_retries]") {
		t.Errorf("unknown keys: %v", err)
	}
	if _, err := b.parse("--config", filepath.Join(b.dir, "none.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named and is missing: %v", err)
	}
	if _, err := b.load("root ="); err == nil {
		t.Error("a file that is no TOML is accepted")
	}
}

// CRI-O's keys that Stele does not have are refused with the reason.
func TestUnservedKeys(t *testing.T) {
	b := newBench(t)
	for key, why := range unserved {
		_, err := b.load("[runtime.handlers.x]\npath = 'runc'\n" + key + " = ''\n")
		if want := "runtime.handlers.x." + key + ": " + why; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	_, err := b.load("monitor_env = []\n[runtime.handlers.x]\npath = 'runc'\nmonitor_path = '/x'\ncolour = 'red'\n")
	if err == nil || !strings.Contains(err.Error(), "runtime.handlers.x.monitor_path: is not supported") ||
		!strings.HasSuffix(err.Error(), "unknown keys: [monitor_env runtime.handlers.x.colour]") {
		t.Errorf("%v", err)
	}
}

// A handler can have the default's runtime under another name, with other options.
func TestInheritDefaultRuntime(t *testing.T) {
	b := newBench(t)
	c, err := b.load("[runtime]\ndefault = 'runc'\n[runtime.handlers.runc]\npath = 'runc'\nruntime_type = 'oci'\n[runtime.handlers.a]\ninherit_default_runtime = true\npath = 'crun'\n")
	if a := c.Runtime.Handlers["a"]; err != nil || a.Path != filepath.Join(b.dir, "runc") || a.Type != "oci" {
		t.Errorf("%+v, %v", a, err)
	}
}

// Without a monitor the error says where it was looked for.
func TestNoMonitor(t *testing.T) {
	b := newBench(t)
	if err := os.Remove(filepath.Join(b.dir, "stele-monitor")); err != nil {
		t.Fatal(err)
	}
	const want = `configuration: monitor: "" is not set, and stele-monitor is neither beside this program nor in PATH`
	if _, err := b.load(""); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}
