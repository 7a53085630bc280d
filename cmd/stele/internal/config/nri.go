package config

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/stele-runtime/stele/executors/nri"
)

// NRI says how plug-ins of the Node Resource Interface take part. The keys have CRI-O's
// names.
type NRI struct {
	// Enabled: plug-ins may take part. Without any, that costs nothing.
	Enabled bool `toml:"enable_nri"`
	// Listen is the path of the socket to which plug-ins connect.
	Listen string `toml:"nri_listen"`
	// PluginDir holds plug-ins to start, PluginConfigDir their configurations. Neither
	// need exist.
	PluginDir       string `toml:"nri_plugin_dir"`
	PluginConfigDir string `toml:"nri_plugin_config_dir"`
	// RegistrationTimeout bounds a plug-in's registration. One that does not answer a
	// request within RequestTimeout is dropped.
	RegistrationTimeout time.Duration `toml:"nri_plugin_registration_timeout"`
	RequestTimeout      time.Duration `toml:"nri_plugin_request_timeout"`
	// DisableConnections: only the plug-ins of PluginDir.
	DisableConnections bool `toml:"nri_disable_connections"`
	// Validator refuses adjustments.
	Validator NRIValidator `toml:"default_validator"`
}

// NRIValidator is the configuration of NRI's default validator.
type NRIValidator struct {
	// Enabled: the other keys count.
	Enabled bool `toml:"nri_enable_default_validator"`
	// A plug-in may not add OCI hooks, change seccomp profiles of a kind, namespaces or
	// sysctls.
	RejectOCIHooks              bool `toml:"nri_validator_reject_oci_hook_adjustment"`
	RejectRuntimeDefaultSeccomp bool `toml:"nri_validator_reject_runtime_default_seccomp_adjustment"`
	RejectUnconfinedSeccomp     bool `toml:"nri_validator_reject_unconfined_seccomp_adjustment"`
	RejectCustomSeccomp         bool `toml:"nri_validator_reject_custom_seccomp_adjustment"`
	RejectNamespaces            bool `toml:"nri_validator_reject_namespace_adjustment"`
	RejectSysctls               bool `toml:"nri_validator_reject_sysctl_adjustment"`
	// RequiredPlugins must be there whenever a container is created, unless its pod has
	// TolerateMissing, an annotation with the value true.
	RequiredPlugins []string `toml:"nri_validator_required_plugins"`
	TolerateMissing string   `toml:"nri_validator_tolerate_missing_plugins_annotation"`
}

func defaultNRI() NRI {
	return NRI{
		Enabled: true, Listen: nri.DefaultSocket, PluginDir: nri.DefaultPluginDir, PluginConfigDir: nri.DefaultPluginConfigDir,
		RegistrationTimeout: nri.DefaultRegistrationTimeout, RequestTimeout: nri.DefaultRequestTimeout,
	}
}

// Options is the validator's configuration as its driver has it.
func (v *NRIValidator) Options() nri.Validator {
	return nri.Validator{
		Enable: v.Enabled, RejectOCIHookAdjustment: v.RejectOCIHooks,
		RejectRuntimeDefaultSeccompAdjustment: v.RejectRuntimeDefaultSeccomp, RejectUnconfinedSeccompAdjustment: v.RejectUnconfinedSeccomp,
		RejectCustomSeccompAdjustment: v.RejectCustomSeccomp, RejectNamespaceAdjustment: v.RejectNamespaces,
		RejectSysctlAdjustment: v.RejectSysctls,
		RequiredPlugins:        v.RequiredPlugins, TolerateMissingAnnotation: v.TolerateMissing,
	}
}

func (n *NRI) check() error {
	problems := []error{
		dir("nri.nri_plugin_dir", n.PluginDir), dir("nri.nri_plugin_config_dir", n.PluginConfigDir),
		isAbsolute("nri.nri_listen", n.Listen),
		timeout("nri.nri_plugin_registration_timeout", n.RegistrationTimeout), timeout("nri.nri_plugin_request_timeout", n.RequestTimeout),
		n.Validator.check(),
	}
	if len(n.Listen) > maxSocketPath {
		problems = append(problems, refuse("nri.nri_listen", n.Listen, "has %d bytes; a socket's path has at most %d", len(n.Listen), maxSocketPath))
	}
	if n.Listen == "" && n.Enabled && !n.DisableConnections {
		problems = append(problems, refuse("nri.nri_listen", n.Listen, "is not a path, and nri.nri_disable_connections is not set"))
	}
	return errors.Join(problems...)
}

// shortestTimeout is below what any plug-in could keep. A number without a unit is in
// nanoseconds.
const shortestTimeout = time.Millisecond

func timeout(key string, d time.Duration) error {
	if d < shortestTimeout {
		return refuse(key, d, "is too short for any plug-in; write a unit, as in %q", "2s")
	}
	return nil
}

// pluginName matches what NRI takes for a name of a plug-in.
var pluginName = regexp.MustCompile(`^[a-zA-Z0-9_.+-]+$`)

func (v *NRIValidator) check() error {
	var problems []error
	for _, name := range v.RequiredPlugins {
		if !pluginName.MatchString(name) {
			problems = append(problems, refuse("nri.default_validator.nri_validator_required_plugins", name, "is not a plug-in's name"))
		}
	}
	if strings.ContainsAny(v.TolerateMissing, " \t\n=") {
		problems = append(problems, refuse("nri.default_validator.nri_validator_tolerate_missing_plugins_annotation", v.TolerateMissing, "is not the key of an annotation"))
	}
	return errors.Join(problems...)
}
