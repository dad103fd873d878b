package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/tks/hsm/softkey"
	"inkan/tks/remote"
	"inkan/tps/audit"
	"inkan/tps/peer"
	"inkan/tps/wire"
)

// JoinRequest is what a node needs to join an array.
type JoinRequest struct {
	Primary     string // host:port
	Code        secret.Secret
	Fingerprint wire.Fingerprint               // of the array's CA; zero: Confirm decides
	Confirm     func(ArrayOffer) (bool, error) // asks a person whether to trust it
	Replace     bool                           // a member of the same name, this node's earlier life, is to go
	// Folder is for a folder that is not prepared yet; nil: it has to be.
	Folder *JoinFolder
}

// JoinFolder says how the folder of a new member is made. What its nodes have in
// common it gets from the array: the authority, and the settings of cards.
type JoinFolder struct {
	Config config.Config // its [tps], [ca] and [realm] are not looked at
	// KeyFile is a copy of the array's key file (inkan keyset backup), for a node with
	// the role tks and no HSM, and KeyPassphrase its passphrase. KeepPassphrase writes
	// that into the folder.
	KeyFile        string
	KeyPassphrase  secret.Secret
	KeepPassphrase bool
}

// Joined is what a node has joined.
type Joined struct {
	Array       string   `json:"Array"`
	Node        string   `json:"Node"` // name
	Primary     string   `json:"Primary"`
	Members     []string `json:"Members"`
	Fingerprint string   `json:"Fingerprint"`
	// Pending is why the others have not taken the node up yet; they do when it runs.
	Pending string `json:"Pending,omitempty"`
}

// Join makes the node of a folder a member of another node's array. Authority, keys and
// records have to be those of the array. A folder that is not prepared becomes that of
// a member. Where Join was cut or refused, nothing is in the array yet that could not
// be finished with the same code.
func Join(ctx context.Context, folder string, o Options, q JoinRequest) (Joined, error) {
	n, err := openJoining(ctx, folder, o, q.Folder)
	if err != nil {
		return Joined{}, err
	}
	out, err := n.join(ctx, q)
	return out, errors.Join(err, n.Close())
}

// openJoining opens the folder, or as much of a new one as joining needs.
func openJoining(ctx context.Context, folder string, o Options, f *JoinFolder) (*Node, error) {
	_, err := sealing.Prepared(folder)
	switch {
	case err == nil && f != nil:
		return nil, fmt.Errorf("%s: %w: it joins with the settings that it has", folder, ErrPrepared)
	case err == nil:
		return openMember(ctx, folder, o)
	case !errors.Is(err, ErrNotPrepared) || f == nil:
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Folder: folder, Config: f.Config, log: o.Log, program: o.Program}
	if err := n.openNew(ctx, o, f); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// openNew makes a folder, all but its configuration: without that it is not prepared.
func (n *Node) openNew(ctx context.Context, o Options, f *JoinFolder) (err error) {
	if err := os.MkdirAll(n.Folder, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if n.lock, err = sealing.Lock(n.path(sealing.LockFile)); err != nil {
		return err
	}
	for _, dir := range []string{"keys", "ca", AppletFolder, n.Config.Audit.Folder} {
		if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
			return fmt.Errorf("making the data folder: %w", err)
		}
	}
	if n.hasKeys() {
		if n.vault, err = n.openNewKeys(ctx, o, f); err != nil {
			return err
		}
	}
	if n.Audit, err = audit.OpenFile(n.path(n.Config.Audit.Folder)); err != nil {
		return err
	}
	return n.openPeers(ctx)
}

// openNewKeys opens the HSM, or takes the copy of the array's key file.
func (n *Node) openNewKeys(ctx context.Context, o Options, f *JoinFolder) (sealing.Vault, error) {
	if n.Config.HSM.URI != "" {
		return sealing.OpenVault(ctx, n.Config.HSM, n.path, o)
	}
	if f.KeyFile == "" {
		return nil, errors.New("a node with the role tks needs the keys of the array: the same HSM, or a copy of the array's key file (inkan keyset backup)")
	}
	b, err := os.ReadFile(f.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the copy of the key file: %w", err)
	}
	if err := sealing.WriteFile(n.path(sealing.KeyFile), b, 0o600); err != nil {
		return nil, err
	}
	v, err := softkey.Open(n.path(sealing.KeyFile), f.KeyPassphrase)
	if err != nil {
		return nil, fmt.Errorf("opening the copy of the key file: %w", err)
	}
	if f.KeepPassphrase {
		err = sealing.WriteFile(n.path(sealing.PassphraseFile), f.KeyPassphrase.Bytes(), 0o400)
	}
	return v, err
}

// ReadConfig reads the configuration of a folder that no node has open.
func ReadConfig(ctx context.Context, folder string, o Options) (config.Config, error) {
	n, err := openMember(ctx, folder, o)
	if err != nil {
		return config.Config{}, err
	}
	return n.Config, n.Close()
}

func (n *Node) join(ctx context.Context, q JoinRequest) (Joined, error) {
	if n.Config.Database.URL == "" {
		return Joined{}, errors.New("the nodes of an array share a PostgreSQL database, and this node's configuration names none ([database] url); nothing was sent")
	}
	if err := n.peers.open(ctx); err != nil {
		return Joined{}, fmt.Errorf("%w; [listen] peer_name and peer_address say how the other nodes find this one; nothing was sent", err)
	}
	if err := n.Audit.Record(ctx, audit.Event{Name: "ARRAY_JOIN", Outcome: audit.Attempt, Fields: map[string]string{"primary": q.Primary}}); err != nil {
		return Joined{}, err
	}
	out, err := n.ask(ctx, q)
	e := audit.Event{Name: "ARRAY_JOIN", Outcome: audit.Success, Fields: map[string]string{"primary": q.Primary, "array": out.Array}}
	if err != nil {
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	return out, errors.Join(err, n.Audit.Record(context.WithoutCancel(ctx), e))
}

func (n *Node) ask(ctx context.Context, q JoinRequest) (Joined, error) {
	node := n.peers.node.Load()
	opts := peer.JoinOptions{Primary: peer.WithPort(q.Primary), Code: q.Code, Fingerprint: q.Fingerprint, Replace: q.Replace}
	if q.Confirm != nil {
		opts.Confirm = func(o peer.Offer) (bool, error) { return q.Confirm(offerOf(o)) }
	}
	opts.Accept = func(s peer.State, docs map[string][]byte) error { return n.fits(ctx, s, docs, q.Folder != nil) }
	if err := node.Join(ctx, opts); err != nil {
		return Joined{}, err
	}
	if err := n.removeWithin(leftFile); err != nil {
		return Joined{}, err
	}
	s, _ := node.State()
	out := Joined{Array: s.Name, Node: n.Config.PeerName()}
	for _, m := range s.Members {
		out.Members = append(out.Members, m.Name)
		if m.Node == s.Primary {
			out.Primary = m.Name
		}
	}
	for _, ca := range node.CAs() {
		if ca.Role == peer.CurrentCA {
			out.Fingerprint = ca.Fingerprint.String()
		}
	}
	if err := n.peers.becomeActive(ctx); err != nil {
		out.Pending = err.Error()
	} else if err := n.copyLedger(ctx); err != nil {
		out.Pending = err.Error()
	}
	return out, nil
}

// errOtherThings begins the reasons why a node does not fit into an array.
var errOtherThings = errors.New("this node does not have what the array has, and is no member; the same code may be used again")

// fits refuses an array that has another authority, other keys or other records than
// this node, and writes down what a new folder gets from the array.
func (n *Node) fits(ctx context.Context, s peer.State, docs map[string][]byte, fresh bool) error {
	var theirs remote.Fingerprint
	if err := json.Unmarshal(docs[docKeys], &theirs); err != nil || docs[docAuthority] == nil {
		return fmt.Errorf("%w: the primary has not told yet which keys the array has: see inkan array status there", errOtherThings)
	}
	p, _ := s.Member(s.Primary)
	reasons, err := n.differences(ctx, theirs, p.Name, fresh)
	if err != nil {
		return fmt.Errorf("%w: %w", errOtherThings, err)
	}
	if err := n.sameRecords(ctx, string(docs[docDatabase])); err != nil {
		reasons = append(reasons, err.Error())
	}
	if len(reasons) > 0 {
		return fmt.Errorf("%w: %s", errOtherThings, strings.Join(reasons, "; "))
	}
	if err := n.markLedger(); err != nil || !fresh {
		return err
	}
	return n.settle(docs)
}

// differences says what is not the same here and in the array.
func (n *Node) differences(ctx context.Context, theirs remote.Fingerprint, there string, fresh bool) ([]string, error) {
	authority := ""
	if !fresh {
		b, err := os.ReadFile(n.path(caFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("reading the authority's certificate: %w", err)
		}
		authority = string(b)
	}
	if !n.hasKeys() {
		if authority != "" && authority != theirs.Authority {
			return []string{"the certificate authority of this folder (" + caFile + ") is another one"}, nil
		}
		return nil, nil
	}
	ours, err := n.comparedKeys(ctx, theirs, authority)
	if err != nil {
		return nil, err
	}
	return remote.Differences("this node", ours, there, theirs), nil
}

// sameRecords refuses another database than the array's.
func (n *Node) sameRecords(ctx context.Context, want string) error {
	db, err := sealing.OpenDatabase(ctx, n.Config.Database, n.path)
	if err != nil {
		return err
	}
	defer db.Close()
	id, err := databaseID(ctx, db)
	switch {
	case err != nil:
		return err
	case want == "":
		return errors.New("the primary has not told yet which database the array has")
	case id == "":
		return errors.New("the database of this node ([database] url) is empty, and not the one that the nodes of the array share")
	case id != want:
		return errors.New("the database of this node ([database] url) is not the one that the nodes of the array share")
	}
	return nil
}

// settle completes a new folder: the authority's certificates, and at last the
// configuration.
func (n *Node) settle(docs map[string][]byte) error {
	shared, err := config.Decode(docs[docConfig])
	if err != nil {
		return fmt.Errorf("reading what the nodes of the array have in common: %w", err)
	}
	c := n.Config
	c.Node.Lab, c.TPS, c.CA, c.Realm, c.TKS.CallsPerCard = shared.Node.Lab, shared.TPS, shared.CA, shared.Realm, shared.TKS.CallsPerCard
	if c, err = c.Complete(); err != nil {
		return err
	}
	n.Config = c
	if err := createApplets(n.path, c.Node.Lab); err != nil {
		return err
	}
	if err := sealing.WriteFile(n.path(caFile), docs[docAuthority], 0o644); err != nil {
		return err
	}
	doc, err := c.Encode()
	if err != nil {
		return err
	}
	return sealing.WriteFile(n.path(sealing.ConfigFile), doc, 0o600)
}
