package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxFolder is the longest folder that a socket's address takes beside the name
// of the socket: 108 bytes with the final zero (unix(7)).
const maxFolder = 107 - len("/"+SocketFile)

// shorten names a folder by a path that fits into a socket's address: one whose
// own path is too long is opened and reached through /proc. done is called when
// the path has been used.
func shorten(folder string) (path string, done func(), err error) {
	if len(folder) <= maxFolder {
		return folder, func() {}, nil
	}
	d, err := os.OpenFile(folder, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", d.Fd()), func() { d.Close() }, nil
}

// peerOf is the user id of the process that connected (SO_PEERCRED, unix(7)).
func peerOf(c net.Conn) (string, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "", errors.New("not a connection of a local socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "", err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return "", err
	}
	if cerr != nil {
		return "", cerr
	}
	return strconv.FormatUint(uint64(cred.Uid), 10), nil
}
