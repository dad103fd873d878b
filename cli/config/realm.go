package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"inkan/tps/realm"
)

// Realm says how the keys follow each other that sign the node's own tokens, and
// who else accepts those.
type Realm struct {
	RotateEvery Duration      `toml:"rotate_every"` // a key signs for; default 2160h (90 days), at least 24h
	RotateAhead Duration      `toml:"rotate_ahead"` // the next key is published so long before; default 24h, at least 10m
	PassiveFor  Duration      `toml:"passive_for"`  // then it verifies for; default 720h, at least 9h
	DisabledFor Duration      `toml:"disabled_for"` // then its private half is kept for; default 720h, at least 1h
	ByHand      bool          `toml:"by_hand"`      // nothing of this happens by itself
	Client      []RealmClient `toml:"client"`
}

// RealmClient is somebody who accepts the node's tokens.
type RealmClient struct {
	ID       string `toml:"id"`
	AdminURL string `toml:"admin_url"` // https address that is told of a compromised key; empty: the client polls /.well-known/tms-revocation
	Protocol string `toml:"protocol"`  // tms (default) or keycloak-adapter
	Trust    string `toml:"trust"`     // PEM file with the CA of admin_url, in the data folder; empty: the system's
}

// Protocols of realm clients.
const (
	TMS      = "tms"
	Keycloak = "keycloak-adapter"
)

// Policy is the section as tps/realm wants it.
func (r Realm) Policy() realm.Policy {
	return realm.Policy{Every: time.Duration(r.RotateEvery), Ahead: time.Duration(r.RotateAhead), PassiveFor: time.Duration(r.PassiveFor),
		DisabledFor: time.Duration(r.DisabledFor), Off: r.ByHand}
}

// check names what is wrong with the clients and the policy.
func (r Realm) check() error {
	errs := []error{r.Policy().Check()}
	seen := map[string]bool{}
	for _, c := range r.Client {
		switch {
		case c.ID == "" || seen[c.ID]:
			errs = append(errs, fmt.Errorf("client id %q is empty or there twice", c.ID))
		case c.AdminURL != "" && !strings.HasPrefix(c.AdminURL, "https://"):
			errs = append(errs, fmt.Errorf("client %s: admin_url %q does not begin https://", c.ID, c.AdminURL))
		case c.Protocol != TMS && c.Protocol != Keycloak:
			errs = append(errs, fmt.Errorf("client %s: protocol %q is neither %s nor %s", c.ID, c.Protocol, TMS, Keycloak))
		}
		seen[c.ID] = true
	}
	return errors.Join(errs...)
}
