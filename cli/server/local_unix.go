//go:build unix

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// listenLocal listens on the local socket, mode 0600. A socket that a killed node
// left behind is replaced: the caller has the folder's lock, so nobody is behind it.
func (n *Node) listenLocal() (net.Listener, error) {
	l, err := listenSocket(n.Folder, n.path(SocketFile))
	if err != nil {
		return nil, fmt.Errorf("listening on the local socket: %w", err)
	}
	return l, nil
}

// listenSocket makes the socket in a folder of its own, where nobody else looks
// before its mode is right, and moves it to its place, over an old one.
func listenSocket(folder, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and not a socket", path)
	}
	dir, err := os.MkdirTemp(folder, ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	short, done, err := shorten(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(short, "s")})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its name changes
	if err := os.Chmod(filepath.Join(dir, "s"), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if err := os.Rename(filepath.Join(dir, "s"), path); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{UnixListener: l, path: path}, nil
}

// socket is a listener whose file goes with it.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Close implements net.Listener. A second call does nothing: by then the file may
// be another node's.
func (s *socket) Close() (err error) {
	s.once.Do(func() { err = errors.Join(os.Remove(s.path), s.UnixListener.Close()) })
	return err
}

// dialLocal connects to the socket of a folder.
func dialLocal(ctx context.Context, folder string) (net.Conn, error) {
	if _, err := os.Lstat(filepath.Join(folder, SocketFile)); err != nil {
		return nil, err
	}
	short, done, err := shorten(folder)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(short, SocketFile))
}
