package registry

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	imagetypes "go.podman.io/image/v5/types"

	"github.com/stele-runtime/stele/actors/redact"
)

// Credentials are those of a pull: the fields of the CRI's AuthConfig. They print and log
// as "[redacted]".
type Credentials struct {
	Username string
	Password string
	// Auth is base64 of "username:password"; it counts if Username and Password are
	// empty.
	Auth string
	// IdentityToken is exchanged for a registry token by the registry's token server.
	IdentityToken string
	// RegistryToken is sent to the registry as it is.
	RegistryToken string
	// ServerAddress, if not empty, is the only registry that gets the credentials.
	ServerAddress string
}

// String hides the credentials.
func (c Credentials) String() string {
	if c == (Credentials{}) {
		return ""
	}
	return redact.Mark
}

// GoString hides the credentials.
func (c Credentials) GoString() string { return strconv.Quote(c.String()) }

// LogValue hides the credentials.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// apply sets the credentials for a pull from the given registry. The library sends
// them to that registry only, not to its mirrors.
func (c Credentials) apply(system *imagetypes.SystemContext, registry string) error {
	if c.ServerAddress != "" && !sameRegistry(c.ServerAddress, registry) {
		return nil
	}
	username, password, err := c.login()
	if err != nil {
		return err
	}
	if c.RegistryToken != "" {
		system.DockerBearerRegistryToken = c.RegistryToken
		// Only if this is set, too, the library withholds the token from mirrors.
		system.DockerAuthConfig = &imagetypes.DockerAuthConfig{}
	}
	if username != "" || password != "" || c.IdentityToken != "" {
		system.DockerAuthConfig = &imagetypes.DockerAuthConfig{
			Username:      username,
			Password:      password,
			IdentityToken: c.IdentityToken,
		}
	}
	return nil
}

func (c Credentials) login() (username, password string, err error) {
	if c.Username != "" || c.Password != "" || c.Auth == "" {
		return c.Username, c.Password, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(c.Auth)
	if err != nil {
		return "", "", fmt.Errorf("%w: the credentials' auth field is not base64", ErrUnauthorized)
	}
	username, password, found := strings.Cut(string(decoded), ":")
	if !found {
		return "", "", fmt.Errorf("%w: the credentials' auth field is not of the form username:password", ErrUnauthorized)
	}
	return username, strings.Trim(password, "\x00"), nil
}

// secrets returns what must not be shown.
func (c Credentials) secrets() []string {
	secrets := []string{c.Password, c.Auth, c.IdentityToken, c.RegistryToken}
	if username, password, err := c.login(); err == nil && password != "" {
		secrets = append(secrets, password, base64.StdEncoding.EncodeToString([]byte(username+":"+password)))
	}
	return secrets
}

// configuredSecrets returns the configured secrets for the names that were tried, and for
// their mirrors.
func (j *job) configuredSecrets() []string {
	var secrets []string
	for _, name := range j.names {
		places := []reference.Named{name}
		if registry, err := sysregistriesv2.FindRegistry(j.system, name.Name()); err == nil && registry != nil {
			if sources, err := registry.PullSourcesFromReference(name); err == nil {
				for _, source := range sources {
					places = append(places, source.Reference)
				}
			}
		}
		for _, place := range places {
			if found, err := config.GetCredentialsForRef(j.system, place); err == nil {
				secrets = append(secrets, Credentials{
					Username: found.Username, Password: found.Password, IdentityToken: found.IdentityToken,
				}.secrets()...)
			}
		}
	}
	return secrets
}

// sameRegistry compares a server address, which may be a URL, with a registry's
// host. Docker Hub has several names.
func sameRegistry(address, registry string) bool {
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	host, _, _ := strings.Cut(address, "/")
	return hubName(host) == hubName(registry)
}

func hubName(host string) string {
	switch host = strings.ToLower(host); host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
