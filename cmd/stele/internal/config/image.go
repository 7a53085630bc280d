package config

import (
	"errors"
	"slices"
	"time"

	"github.com/stele-runtime/stele/executors/registry"
	"github.com/stele-runtime/stele/executors/storage"
)

// Image says where images come from. Keys that CRI-O also has, have its names. An empty
// path means the file that the node's other container tools use.
type Image struct {
	// PinnedImages holds names of images that the kubelet must not collect: whole
	// ones, or patterns with * at the end or at both.
	PinnedImages []string `toml:"pinned_images"`

	RegistriesConf    string `toml:"registries_conf"`
	RegistriesConfDir string `toml:"registries_conf_dir"`
	// ShortNameMode replaces short-name-mode of registries.conf.
	ShortNameMode string `toml:"short_name_mode"`
	// RegistriesDir is registries.d: where signatures are. CertsDir holds the CAs of
	// registries.
	RegistriesDir string `toml:"registries_dir"`
	CertsDir      string `toml:"certs_dir"`

	// SignaturePolicy is policy.json, SignaturePolicyDir holds those of namespaces.
	SignaturePolicy    string `toml:"signature_policy"`
	SignaturePolicyDir string `toml:"signature_policy_dir"`

	// GlobalAuthFile is auth.json, NamespacedAuthDir holds those of namespaces.
	GlobalAuthFile    string `toml:"global_auth_file"`
	NamespacedAuthDir string `toml:"namespaced_auth_dir"`

	// DecryptionKeysPath is a directory of private keys for encrypted layers.
	DecryptionKeysPath string `toml:"decryption_keys_path"`

	// BigFilesTemporaryDir holds layers until they are unpacked.
	BigFilesTemporaryDir string `toml:"big_files_temporary_dir"`
	// PullProgressTimeout ends a pull that received nothing for so long; 0 for never.
	PullProgressTimeout time.Duration `toml:"pull_progress_timeout"`
	// PullRetries is how often a pull is tried again after a failure that may pass.
	PullRetries int `toml:"pull_retries"`
	// ParallelLayers is how many layers of an image are fetched at a time; 0 for the
	// image library's default.
	ParallelLayers int `toml:"parallel_layers"`
}

// leastProgressTimeout catches numbers without a unit, which TOML reads as nanoseconds.
const leastProgressTimeout = time.Millisecond

func defaultImage() Image {
	return Image{PullProgressTimeout: time.Minute, PullRetries: registry.DefaultRetries}
}

func (i *Image) check() error {
	problems := []error{
		file("image.registries_conf", i.RegistriesConf),
		dir("image.registries_conf_dir", i.RegistriesConfDir),
		dir("image.registries_dir", i.RegistriesDir),
		dir("image.certs_dir", i.CertsDir),
		file("image.signature_policy", i.SignaturePolicy),
		dir("image.signature_policy_dir", i.SignaturePolicyDir),
		isAbsolute("image.global_auth_file", i.GlobalAuthFile), // may be created later
		dir("image.namespaced_auth_dir", i.NamespacedAuthDir),
		dir("image.decryption_keys_path", i.DecryptionKeysPath),
		dir("image.big_files_temporary_dir", i.BigFilesTemporaryDir),
		resolve("image.signature_policy_dir", &i.SignaturePolicyDir),
		resolve("image.namespaced_auth_dir", &i.NamespacedAuthDir),
		resolve("image.decryption_keys_path", &i.DecryptionKeysPath),
		resolve("image.big_files_temporary_dir", &i.BigFilesTemporaryDir),
	}
	for _, pattern := range i.PinnedImages {
		if err := storage.CheckPinned(pattern); err != nil {
			problems = append(problems, refuse("image.pinned_images", pattern, "%w", err))
		}
	}
	if !slices.Contains([]string{"", "enforcing", "permissive", "disabled"}, i.ShortNameMode) {
		problems = append(problems, refuse("image.short_name_mode", i.ShortNameMode, "is not enforcing, permissive or disabled"))
	}
	switch t := i.PullProgressTimeout; {
	case t < 0:
		problems = append(problems, refuse("image.pull_progress_timeout", t, "is negative"))
	case t > 0 && t < leastProgressTimeout:
		problems = append(problems, refuse("image.pull_progress_timeout", t, `is too short for any registry; write a unit, as in "60s"`))
	}
	if i.PullRetries < 0 {
		problems = append(problems, refuse("image.pull_retries", i.PullRetries, "is negative"))
	}
	if i.ParallelLayers < 0 { // not a uint: the TOML library would wrap it around
		problems = append(problems, refuse("image.parallel_layers", i.ParallelLayers, "is negative"))
	}
	return errors.Join(problems...)
}
