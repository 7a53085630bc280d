package registry

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	imagetypes "go.podman.io/image/v5/types"
)

const (
	// DefaultRetries is how often a pull is retried after a failure that may pass, when
	// Options.Retries is 0.
	DefaultRetries = 2
	// DefaultRetryDelay is the first pause before such a retry when
	// Options.RetryDelay is 0. The pauses double up to maxRetryDelay.
	DefaultRetryDelay = time.Second
)

// Options configure a Puller. Store and Dir are required. An empty path means the
// default that all container tools share, if there is one.
type Options struct {
	Store Store
	// Dir is the Puller's own directory, created if need be: temporary files (New removes
	// leftovers), layers of pulls for their retries, and caches (which may be deleted when
	// no Puller uses them).
	Dir string
	// TempDir holds layers until they are unpacked, instead of Dir (CRI-O's
	// big_files_temporary_dir). It may be shared with others.
	TempDir string

	// RegistriesConf and RegistriesConfDir replace /etc/containers/registries.conf
	// and registries.conf.d: mirrors, blocked and insecure registries, short names.
	RegistriesConf, RegistriesConfDir string
	// ShortNameMode replaces short-name-mode of registries.conf: "enforcing",
	// "permissive", "disabled", or empty.
	ShortNameMode string
	// RegistriesDir replaces /etc/containers/registries.d: the places of signatures.
	RegistriesDir string
	// CertsDir replaces /etc/containers/certs.d: the CAs and client certificates of
	// registries.
	CertsDir string

	// PolicyPath replaces /etc/containers/policy.json. If it is empty and there is
	// no policy.json in the usual places, every image is accepted.
	PolicyPath string
	// PolicyDir has policies of namespaces, NAMESPACE.json, which replace that of
	// PolicyPath for the namespace's pods (CRI-O's signature_policy_dir). See Permit.
	PolicyDir string

	// AuthFile replaces the auth.json with the credentials for pulls that bring none
	// (CRI-O's global_auth_file).
	AuthFile string
	// NamespacedAuthDir is where a credential provider of the kubelet leaves an
	// auth.json for a namespace's next pull of an image: see namespace.go.
	NamespacedAuthDir string

	// DecryptionKeysPath is a directory of private keys for encrypted layers, or
	// empty. It need not exist.
	DecryptionKeysPath string

	// MaxParallelLayers bounds how many layers of one image are fetched at a time; 0
	// means the library's default, 6.
	MaxParallelLayers uint
	// Retries is how often a pull is retried after a failure that may pass; 0 means
	// DefaultRetries, less than 0 never. The library retries after an answer of 429: four
	// times, after what Retry-After says, a minute at most.
	Retries int
	// RetryDelay is the pause before the first retry; 0 means DefaultRetryDelay.
	RetryDelay time.Duration
	// StallTimeout ends a pull from one source (a mirror or the registry) with ErrStalled
	// when nothing arrives for this long, and the next source is tried; 0 means never. Time
	// spent unpacking doesn't count.
	StallTimeout time.Duration

	// Platforms, as OS/ARCHITECTURE, are others than this machine's that a runtime handler has
	// a program for. An index's image for this machine comes before one for them.
	Platforms []string

	// Pulling, unless nil, is called when a pull or load begins, and what it returns when it
	// has ended: the libraries make much garbage.
	Pulling func() (ended func())

	// Logger may be nil, for slog.Default.
	Logger *slog.Logger
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	if o.Store == nil || o.Dir == "" {
		return errors.New("a store and a directory must be given")
	}
	for _, dir := range []struct{ what, path string }{
		{"the policies of namespaces", o.PolicyDir},
		{"the credentials of namespaces", o.NamespacedAuthDir},
		{"decryption keys", o.DecryptionKeysPath},
	} {
		if dir.path != "" && !filepath.IsAbs(dir.path) {
			return fmt.Errorf("the directory of %s, %q, is not an absolute path", dir.what, dir.path)
		}
	}
	if _, err := o.shortNameMode(); err != nil {
		return err
	}
	if o.TempDir == "" {
		o.TempDir = filepath.Join(o.Dir, tempDir)
	}
	if err := os.MkdirAll(o.TempDir, 0o700); err != nil {
		return err
	}
	if o.Retries == 0 {
		o.Retries = DefaultRetries
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = DefaultRetryDelay
	}
	if o.Pulling == nil {
		o.Pulling = func() func() { return func() {} }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// shortNameMode is nil if registries.conf decides.
func (o *Options) shortNameMode() (*imagetypes.ShortNameMode, error) {
	var mode imagetypes.ShortNameMode
	switch o.ShortNameMode {
	case "":
		return nil, nil
	case "enforcing":
		mode = imagetypes.ShortNameModeEnforcing
	case "permissive":
		mode = imagetypes.ShortNameModePermissive
	case "disabled":
		mode = imagetypes.ShortNameModeDisabled
	default:
		return nil, fmt.Errorf("short name mode %q is none of enforcing, permissive, disabled", o.ShortNameMode)
	}
	return &mode, nil
}

// system returns the image library's settings, without credentials and for no namespace.
func (o *Options) system() *imagetypes.SystemContext {
	mode, _ := o.shortNameMode() // complete has checked it
	return &imagetypes.SystemContext{
		SystemRegistriesConfPath:    o.RegistriesConf,
		SystemRegistriesConfDirPath: o.RegistriesConfDir,
		UserShortNameAliasConfPath:  filepath.Join(o.Dir, cacheDir, aliasesFile),
		ShortNameMode:               mode,
		RegistriesDirPath:           o.RegistriesDir,
		SignaturePolicyPath:         o.PolicyPath,
		AuthFilePath:                o.AuthFile,
		DockerPerHostCertDirPath:    o.CertsDir,
		BlobInfoCacheDir:            filepath.Join(o.Dir, cacheDir),
		BigFilesTemporaryDir:        o.TempDir,
		DockerRegistryUserAgent:     userAgent,
	}
}
