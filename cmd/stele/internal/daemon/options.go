package daemon

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/stele-runtime/stele/cmd/stele/internal/config"
	"github.com/stele-runtime/stele/executors/spec"
	"github.com/stele-runtime/stele/executors/spec/confine"
)

// options are what the administrator decides for containers of a handler.
func (d *Drivers) options(r config.Runtime, h config.Handler) (spec.Options, error) {
	options := spec.Options{
		Options: confine.Options{
			Capabilities: r.DefaultCapabilities, InheritableCapabilities: r.AddInheritableCapabilities,
			AppArmorProfile: appArmorProfile(d.Host, r), LabelHostNetwork: !r.HostnetworkDisableSELinux,
		},
		Env: r.DefaultEnv, PidsLimit: r.PidsLimit,
		Annotations: h.AllowedAnnotations, DefaultAnnotations: h.DefaultAnnotations,
		NoHostDevices: h.PrivilegedWithoutHostDevices, AllowedDevices: r.AllowedDevices,
		DevicesFollowUser: r.DeviceOwnershipFromSecurityContext,
		ImageVolumes:      spec.ImageVolumes(r.ImageVolumes), AbsentMountSources: r.AbsentMountSourcesToReject, ReadOnly: r.ReadOnly,
	}
	var err error
	if options.MinMemory, err = h.MinMemory(); err != nil {
		return options, err
	}
	if options.ShmSize, err = r.SizeOfShm(); err != nil {
		return options, err
	}
	if options.Timezone, err = r.TimezoneFile(); err != nil {
		return options, err
	}
	for _, text := range r.DefaultUlimits {
		limit, err := spec.ParseUlimit(text)
		if err != nil {
			return options, err
		}
		options.Rlimits = append(options.Rlimits, limit)
	}
	for _, text := range r.AdditionalDevices {
		device, err := spec.ParseDevice(text)
		if err != nil {
			return options, err
		}
		options.Devices = append(options.Devices, device)
	}
	if options.Seccomp, err = seccompFile(cmp.Or(h.SeccompProfile, r.SeccompProfile)); err != nil {
		return options, err
	}
	options.PrivilegedSeccomp, err = seccompFile(r.PrivilegedSeccompProfile)
	return options, err
}

// maxSeccomp bounds a profile, in bytes.
const maxSeccomp = 1 << 20

// seccompFile reads a profile and checks that it is one; nil without a path.
func seccompFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSeccomp+1))
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if len(data) > maxSeccomp {
		return nil, fmt.Errorf("seccomp profile %s is larger than %d bytes", path, maxSeccomp)
	}
	if err := confine.CheckSeccomp(data); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	return data, nil
}
