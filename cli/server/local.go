package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"inkan/cli/sealing"
	"inkan/tps/api"
	"inkan/tps/auth"
)

// localURL is what a request through the local socket is addressed to; nothing
// resolves the name.
const localURL = "http://inkan.local"

// localWait is how long Local waits for a node that is starting, or for another
// command, to let it in.
const localWait = 10 * time.Second

// Access reaches the REST handlers of a data folder as local administrator.
type Access struct {
	Client *http.Client
	URL    string // scheme and host; paths of tps/api follow
	close  func() error
}

// Close ends the access, and the node if it runs in this process.
func (a *Access) Close() error { return a.close() }

// Local reaches the node that has the folder open through its local socket. With
// no node running, it opens the folder in this process and calls the same
// handlers. The caller closes the access.
func Local(ctx context.Context, folder string, o Options) (*Access, error) {
	return reach(ctx, folder, func() (*Access, error) {
		n, err := Open(ctx, folder, o)
		if err != nil {
			return nil, err
		}
		return n.access()
	})
}

// LocalArray is Local for what is at [ArrayPath]. Without a node that runs, neither
// the database nor another node is needed for it.
func LocalArray(ctx context.Context, folder string, o Options) (*Access, error) {
	return reach(ctx, folder, func() (*Access, error) {
		n, err := openMember(ctx, folder, o)
		if err != nil {
			return nil, err
		}
		t := inProcess(n.arrayHandler(localAdministrator(sealing.ThisUser()).Name).ServeHTTP)
		return &Access{Client: &http.Client{Transport: t}, URL: localURL, close: n.Close}, nil
	})
}

// reach reaches the node that runs, or opens the folder in this process.
func reach(ctx context.Context, folder string, open func() (*Access, error)) (*Access, error) {
	tries, cancel := context.WithTimeout(ctx, localWait)
	defer cancel()
	for {
		a, err := reachSocket(tries, folder)
		if a != nil || err != nil {
			return a, err
		}
		if a, err = open(); !errors.Is(err, ErrInUse) {
			return a, err
		}
		select { // a node that starts or ends, or another command
		case <-time.After(100 * time.Millisecond):
		case <-tries.Done():
			return nil, fmt.Errorf("%w and does not answer at %s", err, SocketFile)
		}
	}
}

// reachSocket returns nil without an error where nobody listens.
func reachSocket(ctx context.Context, folder string) (*Access, error) {
	c, err := dialLocal(ctx, folder)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("reaching the node at %s: %w: run this as root or as the owner of the folder", sealing.Within(folder, SocketFile), fs.ErrPermission)
	case err != nil:
		return nil, nil
	}
	c.Close()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialLocal(ctx, folder) }}
	return &Access{Client: &http.Client{Transport: t}, URL: localURL, close: func() error { t.CloseIdleConnections(); return nil }}, nil
}

// access serves a node that only this process uses.
func (n *Node) access() (*Access, error) {
	h, err := n.localAPI()
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	who := localAdministrator(sealing.ThisUser())
	t := inProcess(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), who)))
	})
	return &Access{Client: &http.Client{Transport: t}, URL: localURL, close: n.Close}, nil
}

// localAPI is the REST handler over this node.
func (n *Node) localAPI() (http.Handler, error) {
	keySets, keyings := n.keySetAPI()
	return api.New(api.Config{
		Tokens: n.DB, Certificates: n.DB, Activities: n.DB, Journals: n.DB, Profiles: n.DB, Mappings: n.DB, Users: n.DB,
		DefaultProfile: n.Config.TPS.DefaultProfile, UnmanagedProfile: n.Config.TPS.UnmanagedProfile,
		KeySets: keySets, Keyings: keyings, Secrets: n.keys, Revoker: n.Engine, Backups: n, Realm: n.Realm, Tickets: n.Tickets, Audit: n.Audit, AuditRecord: n, Log: n.log,
	})
}

// localHandler serves the local socket: whoever is at the other end must be root
// or the owner of the folder.
func (n *Node) localHandler() http.Handler {
	h, err := n.localAPI()
	if err != nil { // a node that is not wired: nothing is served
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.log.ErrorContext(r.Context(), "local socket", "err", err)
			http.Error(w, "the node is not ready", http.StatusServiceUnavailable)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := n.admit(r.Context())
		if err != nil {
			n.log.WarnContext(r.Context(), "local socket refused", "err", err)
			http.Error(w, "only root and the owner of the data folder may do that", http.StatusForbidden)
			return
		}
		if r.URL.Path == readyPath {
			n.serveReady(w, r)
			return
		}
		who := localAdministrator(id)
		if strings.HasPrefix(r.URL.Path, api.Base+ArrayPath+"/") {
			n.arrayHandler(who.Name).ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r.WithContext(api.WithCaller(r.Context(), who)))
	})
}

// caller is who is at the other end of a local connection.
type caller struct {
	uid string // "" where the system does not say: the socket's mode decided
	err error
}

type peerKey struct{}

// withPeer notes the peer of a connection: an http.Server's ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uid, err := peerOf(c)
	return context.WithValue(ctx, peerKey{}, caller{uid, err})
}

// admit returns the user id of a peer that may come in.
func (n *Node) admit(ctx context.Context) (string, error) {
	p, ok := ctx.Value(peerKey{}).(caller)
	if !ok {
		return "", errors.New("nobody knows whose connection it is")
	}
	if p.err != nil {
		return "", fmt.Errorf("asking whose connection it is: %w", p.err)
	}
	owner, err := sealing.OwnerOf(n.Folder)
	if err != nil {
		return "", fmt.Errorf("asking whose folder it is: %w", err)
	}
	if p.uid != "" && p.uid != "0" && p.uid != owner {
		return "", fmt.Errorf("user %s is neither root nor the owner of the folder", p.uid)
	}
	return p.uid, nil
}

// localAdministrator is somebody on this machine who owns the node. The name has
// a colon, which no user's id has.
func localAdministrator(uid string) api.Caller {
	return api.Caller{Name: sealing.LocalName(uid), Roles: auth.Roles}
}
