//go:build unix && !linux

package server

import (
	"fmt"
	"net"
)

// maxFolder is the longest folder that a socket's address takes beside the name
// of the socket: 104 bytes with the final zero on the BSDs and macOS (unix(4)).
const maxFolder = 103 - len("/"+SocketFile)

// shorten refuses a folder whose path does not fit into a socket's address.
func shorten(folder string) (path string, done func(), err error) {
	if len(folder) > maxFolder {
		return "", nil, fmt.Errorf("the path of the data folder has %d bytes, a local socket takes %d: give --data a shorter or a relative path", len(folder), maxFolder)
	}
	return folder, func() {}, nil
}

// peerOf leaves the decision to the mode of the socket, 0600.
func peerOf(net.Conn) (string, error) { return "", nil }
