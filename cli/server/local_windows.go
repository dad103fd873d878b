package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// maxPath is the longest path of a socket on Windows, in bytes.
const maxPath = 107

// listenLocal listens on the local socket. A socket that a killed node left behind
// is removed: the caller has the folder's lock, so nobody is behind it.
func (n *Node) listenLocal() (net.Listener, error) {
	path := n.path(SocketFile)
	if len(path) > maxPath {
		return nil, fmt.Errorf("listening on the local socket: its path has %d bytes, at most %d: give --data a shorter path", len(path), maxPath)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("removing an old local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on the local socket: %w", err)
	}
	return l, nil
}

// dialLocal connects to the socket of a folder.
func dialLocal(ctx context.Context, folder string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(folder, SocketFile))
}

// peerOf leaves the decision to the access rights of the folder.
func peerOf(net.Conn) (string, error) { return "", nil }
