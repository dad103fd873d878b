package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// lookupTimeout is the longest wait for the name of a loopback address.
const lookupTimeout = 5 * time.Second

// Loopback resolves host:port to an address of this machine that no other machine
// reaches. A host that is or resolves to any other address is an error, and so is
// an empty host, which would mean every address.
func Loopback(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPort{}, errors.New("no host: write 127.0.0.1 before the port")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return netip.AddrPort{}, fmt.Errorf("%s is no loopback address (127.0.0.1, ::1): nothing is encrypted there, so other machines must not reach it", ip.Unmap())
		}
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(n)), nil
}
