package config

import (
	"net"
	"os"
	"time"
)

// Default is the configuration of an empty document.
func Default() Config {
	var c Config
	c.defaults()
	return c
}

func (c *Config) defaults() {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	set(&c.Node.Name, host)
	set(&c.Listen.Address, "0.0.0.0:8443")
	set(&c.Listen.Peer, "0.0.0.0:8444")
	if len(c.Listen.Names) == 0 {
		c.Listen.Names = []string{host, "localhost", "127.0.0.1", "::1"}
	}
	if c.Listen.URL == "" {
		if _, port, err := net.SplitHostPort(c.Listen.Address); err == nil {
			c.Listen.URL = "https://" + net.JoinHostPort(c.Listen.Names[0], port)
		}
	}
	if c.Database.URL == "" {
		set(&c.Database.File, "inkan.db")
	}
	set(&c.HSM.OpTimeout, Duration(10*time.Second))
	if c.TKS.MinimumProtection == "" {
		c.TKS.MinimumProtection = "B"
		if c.HSM.URI == "" {
			c.TKS.MinimumProtection = "D"
		}
	}
	set(&c.TKS.CallsPerCard, 300)
	set(&c.TKS.KeyingQuorum, QuorumMajority)
	set(&c.TKS.CallTimeout, Duration(5*time.Second))
	if len(c.Node.Roles) == 0 {
		c.Node.Roles = []Role{RoleAll}
	}
	set(&c.TPS.DefaultProfile, "userKey")
	set(&c.TPS.UnmanagedProfile, DefaultUnmanagedProfile)
	set(&c.TPS.OrphanAfter, Duration(24*time.Hour))
	set(&c.TPS.OperationTimeout, Duration(10*time.Minute))
	set(&c.TPS.SweepEvery, Duration(time.Minute))
	set(&c.TPS.ClientTimeout, Duration(5*time.Minute))
	set(&c.CA.URL, c.Listen.URL)
	set(&c.CA.CRLLifetime, Duration(24*time.Hour))
	set(&c.CA.OCSPLifetime, Duration(time.Hour))
	set(&c.Auth.Cards, On)
	set(&c.Audit.Folder, "audit")
	set(&c.Realm.RotateEvery, Duration(90*24*time.Hour))
	set(&c.Realm.RotateAhead, Duration(24*time.Hour))
	set(&c.Realm.PassiveFor, Duration(30*24*time.Hour))
	set(&c.Realm.DisabledFor, Duration(30*24*time.Hour))
	for i := range c.Realm.Client {
		set(&c.Realm.Client[i].Protocol, TMS)
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
