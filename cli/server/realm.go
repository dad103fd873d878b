package server

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tps"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/store"
	"inkan/tps/wire"
)

// openRealm opens the signing keys; a folder of an earlier version gets its first.
func (n *Node) openRealm(ctx context.Context) error {
	var err error
	if n.Realm, err = newRealm(n); err != nil {
		return err
	}
	if err := n.Realm.Prepare(ctx); err != nil {
		return fmt.Errorf("making the first realm key: %w", err)
	}
	cards, err := n.cardLogins()
	if err != nil {
		return err
	}
	n.Logins, n.Tickets = realm.NewLogins(n.Realm, n.DB, n.DB, cards), realm.NewTickets(n.Realm, n.DB, n.DB)
	return nil
}

func newRealm(n *Node) (*realm.Realm, error) {
	c := n.Config
	cfg := realm.Config{
		Store: n.DB, Vault: realmVault{n.signers}, Node: c.Node.Name, Own: n.ownKeys(), Changes: n.keyChanges, Audit: n.Audit,
		Issuer: c.Listen.URL, Name: "Inkan " + c.Node.Name, Policy: c.Realm.Policy(), Nodes: n.realmNodes, Log: n.log,
	}
	for _, client := range c.Realm.Client {
		reached, err := n.reach(client)
		if err != nil {
			return nil, err
		}
		cfg.Clients = append(cfg.Clients, realm.Client{ID: client.ID, AdminURL: client.AdminURL, Keycloak: client.Protocol == config.Keycloak, HTTP: reached})
	}
	return realm.New(cfg)
}

// ownKeys reports whether the node's keys are in a key file of its own, which no
// other node of the database reaches.
func (n *Node) ownKeys() bool { return n.hasKeys() && n.Config.HSM.URI == "" }

// keyChanges sends when this or another node has changed the realm keys.
func (n *Node) keyChanges(ctx context.Context) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		for topic := range n.DB.Watch(ctx) {
			if topic != store.TopicRealm {
				continue
			}
			select {
			case out <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// reach is how a client with a CA of its own is told of things; nil: as others.
func (n *Node) reach(c config.RealmClient) (*http.Client, error) {
	if c.Trust == "" {
		return nil, nil
	}
	trust, err := wire.FileTrust(n.path(c.Trust))
	if err != nil {
		return nil, fmt.Errorf("[[realm.client]] %s: trust: %w", c.ID, err)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment}, Timeout: realm.PushTimeout}, nil
}

// realmVault is the node's HSM or key file as tps/realm sees it.
type realmVault struct{ v hsm.Signers }

var _ realm.Vault = realmVault{}

// signerLabel is the label of a realm key: its name, or what a person said.
func signerLabel(name string) (l hsm.SignerLabel, ours bool) {
	if _, err := hex.DecodeString(name); err == nil && len(name) == 32 {
		return hsm.SignerLabel("tms:sign:" + name + ":v01"), true
	}
	return hsm.SignerLabel(name), false
}

// Generate implements realm.Vault.
func (v realmVault) Generate(ctx context.Context, name string, k realm.Kind) (crypto.Signer, error) {
	l, _ := signerLabel(name)
	s, err := v.v.GenerateSigner(ctx, l, hsm.Algorithm(k))
	if missing := (*hsm.MechanismError)(nil); errors.As(err, &missing) {
		return nil, fmt.Errorf("%w: %w", realm.ErrKind, keyError(err))
	}
	return s, keyError(err)
}

// Import implements realm.Vault.
func (v realmVault) Import(ctx context.Context, name string, key crypto.Signer) error {
	l, _ := signerLabel(name)
	_, err := v.v.ImportSigner(ctx, l, key)
	return keyError(err)
}

// Signer implements realm.Vault.
func (v realmVault) Signer(ctx context.Context, name string) (crypto.Signer, error) {
	l, ours := signerLabel(name)
	if !ours && strings.HasPrefix(name, "tms:") && !strings.HasPrefix(name, "tms:sign:") {
		return nil, fmt.Errorf("%s is a key of the node's for something else: %w", name, realm.ErrInput)
	}
	s, err := v.v.Signer(ctx, l)
	if !ours && (errors.Is(err, hsm.ErrNotFound) || errors.Is(err, tks.ErrDenied)) { // denied: it is at a node that has keys
		return nil, fmt.Errorf("%w: %w", err, realm.ErrInput)
	}
	return s, keyError(err)
}

// Destroy implements realm.Vault.
func (v realmVault) Destroy(ctx context.Context, name string) error {
	l, _ := signerLabel(name)
	if err := v.v.DestroySigner(ctx, l); !errors.Is(err, hsm.ErrNotFound) {
		return keyError(err)
	}
	return nil
}

// peopleAPI is the REST handler for whoever logs in over HTTPS.
func (n *Node) peopleAPI() (http.Handler, error) {
	h, err := n.localAPI()
	if err != nil {
		return nil, err
	}
	return api.NewLogin(api.LoginConfig{API: h, Authenticator: n.Users, Logins: n.Logins, Audit: n.Audit, Log: n.log})
}

// tickets are those of the realm as operations take them.
type tickets struct{ t *realm.Tickets }

// Redeem implements tps.Tickets.
func (t tickets) Redeem(ctx context.Context, ticket secret.Secret, op tps.Operation, cuid apdu.CUID) (auth.Person, string, error) {
	p, by, err := t.t.Redeem(ctx, string(ticket.Bytes()), string(op), cuid)
	if errors.Is(err, realm.ErrToken) {
		err = fmt.Errorf("%w: %w", tps.ErrTicket, err)
	}
	return p, by, err
}
