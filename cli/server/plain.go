package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"inkan/cli/config"
)

// listenPlain listens where card clients on this machine are served without TLS;
// nil where the configuration does not ask for it. What a name resolves to may
// have changed since the configuration was checked, so it is checked again.
func (n *Node) listenPlain(ctx context.Context) (net.Listener, error) {
	if n.Config.Listen.Plain == "" {
		return nil, nil
	}
	address, err := config.Loopback(n.Config.Listen.Plain)
	if err != nil {
		return nil, fmt.Errorf("[listen] plain: %w", err)
	}
	ln, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, fmt.Errorf("listening without TLS: %w", err)
	}
	n.log.WarnContext(ctx, "card clients on this machine are served without TLS too ([listen] plain): who can listen on the loopback reads their passwords and PINs",
		slog.String("address", ln.Addr().String()))
	return ln, nil
}

// plainHandler serves card clients at ln, and nothing else: no REST, no console, no
// authority, nothing about the node.
func (n *Node) plainHandler(ln net.Listener) (http.Handler, error) {
	host := ln.Addr().String()
	if strings.HasPrefix(host, "[") { // clients cannot read an IPv6 literal
		host = "localhost" + host[strings.LastIndexByte(host, ':'):]
	}
	mux, err := n.cardRoutes("http://" + host)
	if err != nil {
		return nil, err
	}
	return loopback(mux.ServeHTTP), nil
}
