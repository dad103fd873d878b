// Package config is the configuration of a node: the file inkan.toml, decoded
// strictly (an unknown key stops the start and is named) into [Config], where
// every key is documented. Secrets are not in it: only paths and HSM URIs.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/BurntSushi/toml"

	"inkan/apdu"
	"inkan/tps/token"
)

// Config is the content of inkan.toml. Zero values are replaced by the defaults
// named beside the fields.
type Config struct {
	Node     Node     `toml:"node"`
	Listen   Listen   `toml:"listen"`
	Database Database `toml:"database"`
	HSM      HSM      `toml:"hsm"`
	TKS      TKS      `toml:"tks"`
	TPS      TPS      `toml:"tps"`
	CA       CA       `toml:"ca"`
	Auth     Auth     `toml:"auth"`
	Audit    Audit    `toml:"audit"`
	Realm    Realm    `toml:"realm"`
	Seal     Seal     `toml:"seal"`
	Peer     []Peer   `toml:"peer"`

	Attestation Attestation `toml:"attestation"`
}

// Node says who this node is.
type Node struct {
	Name string `toml:"name"` // default: the host's name
	Lab  bool   `toml:"lab"`  // a trial: factory keys may stay, no key backup was made; warns at each start
	// Roles are tps, tks and console, or all (default). A node without tks has no keys
	// and asks the nodes of its array that have; one with tks alone opens no port but
	// the array's.
	Roles []Role `toml:"roles"`
}

// Listen says where the node is reached.
type Listen struct {
	Address string   `toml:"address"` // default 0.0.0.0:8443
	Names   []string `toml:"names"`   // host names and IP addresses in the server certificate; default: host name, localhost, 127.0.0.1, ::1
	// Certificate and Key are PEM files of a server certificate from elsewhere;
	// empty: the node makes its own under the embedded CA.
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	URL         string `toml:"url"` // how clients reach the node; default https:// first name : port
	// Plain is a second address, on this machine only, where card clients without
	// TLS are served (Dogtag's tpsclient), and nothing else; empty (default): none.
	Plain string `toml:"plain"`
	// HealthFrom are the IP addresses, or networks such as 192.0.2.0/28, from which /healthz
	// and /readyz are answered besides from this machine: load balancers, monitoring.
	HealthFrom []string `toml:"health_from"`
	// Peer is where the other nodes of the array are served, once the node is in one;
	// default 0.0.0.0:8444.
	Peer string `toml:"peer"`
	// PeerName is the DNS name by which the others know the node: its peer certificate is
	// for it. Default: [node] name, in lower case.
	PeerName string `toml:"peer_name"`
	// PeerAddress is the host and port at which the others reach it; default: peer_name
	// and the port of peer.
	PeerAddress string `toml:"peer_address"`
}

// Database says where the records are.
type Database struct {
	File string `toml:"file"` // SQLite; default inkan.db in the data folder, where there is no url
	// URL of a PostgreSQL database that several nodes share, as libpq has it:
	// postgres://user@host/database, with ?sslrootcert=… and what else is wanted. Without
	// sslmode it is verify-full, on this machine prefer. No password stands in it.
	URL          string `toml:"url"`
	PasswordFile string `toml:"password_file"` // its content is the password of url's user
}

// HSM says where the keys are.
type HSM struct {
	URI       string   `toml:"uri"`        // RFC 7512, pkcs11:token=…?module-path=…&pin-source=…; empty: the encrypted key file keys/keystore
	OpTimeout Duration `toml:"op_timeout"` // longest wait for one call; default 10s
}

// TKS says how the key service serves.
type TKS struct {
	MinimumProtection string `toml:"minimum_protection"` // A, B, C or D (hsm.md §9); default B with an HSM, D with the key file
	CallsPerCard      int    `toml:"calls_per_card"`     // requests for one card a minute, and at once; default 300, what an operation needs is about 10
	// CallTimeout is how long a node without the role tks waits for one that has it,
	// before it asks the next; default 5s, at most 1m. A card waits meanwhile.
	CallTimeout Duration `toml:"call_timeout"`
	// KeyingQuorum is how many nodes with the role tks have to agree that a card with a
	// factory's key set was not keyed before: majority (default) of those in the array,
	// or answering, which goes on with the last one and trusts the others not to be used
	// for the same card in between.
	KeyingQuorum string `toml:"keying_quorum"`
}

// DefaultUnmanagedProfile is the default of TPS.UnmanagedProfile. A site that was set up
// before there were PIV cards has no such profile, and needs none.
const DefaultUnmanagedProfile token.ProfileName = "pivUser"

// TPS says how operations run.
type TPS struct {
	DefaultProfile   token.ProfileName `toml:"default_profile"`   // default userKey
	UnmanagedProfile token.ProfileName `toml:"unmanaged_profile"` // instead, for cards without a card manager; default pivUser
	AllowSimulator   bool              `toml:"allow_simulator"`   // serve software cards
	OrphanAfter      Duration          `toml:"orphan_after"`      // unconfirmed certificates are revoked after; default 24h
	OperationTimeout Duration          `toml:"operation_timeout"` // from the first irreversible step on; default 10m
	SweepEvery       Duration          `toml:"sweep_every"`       // default 1m
	ClientTimeout    Duration          `toml:"client_timeout"`    // longest wait for a card or a person; default 5m
	CardManagers     []apdu.AID        `toml:"card_managers"`     // default: GlobalPlatform's and Open Platform's
}

// CA says how the embedded authority issues.
type CA struct {
	URL          string   `toml:"url"`          // base of the addresses in certificates; default: [listen] url
	Organization string   `toml:"organization"` // O of issued certificates; empty = none
	Country      string   `toml:"country"`      // C, two letters
	CRLLifetime  Duration `toml:"crl_lifetime"` // default 24h
	// OCSPLifetime is for how long clients may go on with an OCSP answer; default
	// 1h. The responder itself knows of a hold or revocation at once.
	OCSPLifetime Duration `toml:"ocsp_lifetime"`
}

// Auth says who may log in; local users need no configuration.
type Auth struct {
	// Cards says whether people log in with the certificates on their cards: on or off;
	// default on.
	Cards Switch `toml:"cards"`
	// Authorities are PEM files of authorities, in the data folder, from which the
	// certificates on cards may come that people log in with, besides the embedded one.
	// Whatever they issued, it has to be on an active card of somebody known here.
	Authorities []string `toml:"authorities"`
}

// Switch is on or off. The empty one is what its setting's default says.
type Switch string

// Values of a Switch.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// Audit says where the audit record is kept.
type Audit struct {
	Folder string `toml:"folder"` // default audit in the data folder
}

// Seal is empty: how the configuration is sealed has to be known before it is read,
// and stands in seal.toml.
type Seal struct{}

// Duration is a time.Duration written as 30s, 10m, 24h.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(t []byte) error {
	v, err := time.ParseDuration(string(t))
	if err != nil {
		return fmt.Errorf("duration %q: write it as 30s, 10m or 24h", t)
	}
	if v <= 0 {
		return fmt.Errorf("duration %q is not positive", t)
	}
	*d = Duration(v)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// maxSize is the largest file that is read, in bytes.
const maxSize = 1 << 20

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := Decode(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Decode decodes a document, fills in the defaults and checks the whole.
func Decode(b []byte) (Config, error) {
	var c Config
	if len(b) > maxSize {
		return c, fmt.Errorf("configuration of %d bytes is larger than %d", len(b), maxSize)
	}
	md, err := toml.Decode(string(b), &c)
	if err != nil {
		return Config{}, fmt.Errorf("decoding the configuration: %w", err)
	}
	var errs []error
	for _, k := range md.Undecoded() {
		errs = append(errs, fmt.Errorf("unknown key %s", k))
	}
	c, err = c.Complete()
	return c, errors.Join(append(errs, err)...)
}

// Complete fills in the defaults and checks the whole, as for a document.
func (c Config) Complete() (Config, error) {
	c.defaults()
	return c, c.Check()
}

// Encode writes the document.
func (c Config) Encode() ([]byte, error) {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return nil, fmt.Errorf("encoding the configuration: %w", err)
	}
	return b.Bytes(), nil
}
