package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TellsHealth reports whether a caller at an address is told how the node is.
func (l Listen) TellsHealth(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsLoopback() || slices.ContainsFunc(l.HealthFrom, func(text string) bool {
		n, err := network(text)
		return err == nil && n.Contains(a)
	})
}

// network is an address, or a network of them: 192.0.2.7, 192.0.2.0/28.
func network(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no IP address, and no network such as 192.0.2.0/28", text)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	if err != nil || n.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is no network such as 192.0.2.0/28", text)
	}
	return n, nil
}
