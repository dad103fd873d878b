package config

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"inkan/tks/hsm"
	"inkan/tps/store"
	"inkan/tps/wire"
)

// check names what is wrong with the choice of the database.
func (d Database) check() error {
	switch {
	case d.URL == "" && d.PasswordFile != "":
		return errors.New("password_file goes with url")
	case d.URL == "":
		return nil
	case d.File != "":
		return errors.New("the records are in a file or at a url, not in both")
	}
	if err := store.CheckURL(d.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	return nil
}

// Check checks the whole configuration and names everything that is wrong.
func (c Config) Check() error {
	var errs []error
	add := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	_, _, err := net.SplitHostPort(c.Listen.Address)
	add("[listen] address", err)
	if c.Listen.Plain != "" {
		_, err = Loopback(c.Listen.Plain)
		add("[listen] plain", err)
	}
	for _, text := range c.Listen.HealthFrom {
		_, err = network(text)
		add("[listen] health_from", err)
	}
	_, _, err = net.SplitHostPort(c.Listen.Peer)
	add("[listen] peer", err)
	if c.Listen.PeerAddress != "" {
		_, _, err = net.SplitHostPort(c.Listen.PeerAddress)
		add("[listen] peer_address", err)
	}
	if (c.Listen.Certificate == "") != (c.Listen.Key == "") {
		add("[listen]", errors.New("certificate and key go together"))
	}
	if !strings.HasPrefix(c.Listen.URL, "https://") {
		add("[listen] url", fmt.Errorf("%q does not begin https://", c.Listen.URL))
	} else if c.Node.Has(RoleTPS) {
		add("[listen] url", wire.CheckOperation(c.Listen.URL+wire.Path))
	}
	_, err = hsm.ParseLevel(c.TKS.MinimumProtection)
	add("[tks] minimum_protection", err)
	if c.TKS.CallsPerCard < 1 {
		add("[tks] calls_per_card", fmt.Errorf("%d is not positive", c.TKS.CallsPerCard))
	}
	add("[database]", c.Database.check())
	if c.HSM.URI != "" && !strings.HasPrefix(c.HSM.URI, "pkcs11:") {
		add("[hsm] uri", errors.New("it is no pkcs11 URI (RFC 7512)"))
	}
	if n := len(c.CA.Country); n != 0 && n != 2 {
		add("[ca] country", fmt.Errorf("%q is not a two-letter code", c.CA.Country))
	}
	if d := time.Duration(c.CA.OCSPLifetime); d < time.Minute || d > 24*time.Hour {
		add("[ca] ocsp_lifetime", fmt.Errorf("%s is not between a minute and a day", d))
	}
	if s := c.Auth.Cards; s != On && s != Off {
		add("[auth] cards", fmt.Errorf("%q is neither %s nor %s", s, On, Off))
	}
	add("[attestation]", c.Attestation.check())
	add("[realm]", c.Realm.check())
	if q := c.TKS.KeyingQuorum; q != QuorumMajority && q != QuorumAnswering {
		add("[tks] keying_quorum", fmt.Errorf("%q is neither %s nor %s", q, QuorumMajority, QuorumAnswering))
	}
	if d := time.Duration(c.TKS.CallTimeout); d > time.Minute {
		add("[tks] call_timeout", fmt.Errorf("%s is more than a minute", d))
	}
	add("[node] roles", c.checkRoles())
	add("[[peer]]", c.checkPeers())
	return errors.Join(errs...)
}
