package realm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// Report is what a node says about itself.
type Report struct {
	Node string
	// Signing is the kid that the node signs with, by use and algorithm: "sig ES256".
	Signing map[string]string
	Problem string // why it cannot sign with what it should; empty: it can
	Seen    time.Time
}

// Reports stores those of all nodes.
type Reports interface {
	Report(ctx context.Context, r Report) error
	// Reports are ordered by node.
	Reports(ctx context.Context) ([]Report, error)
	// ForgetNode ends the report of a node that is there no more.
	ForgetNode(ctx context.Context, node string) error
}

// Times of reports.
const (
	lookEvery   = 5 * time.Second  // at the keys, where nobody says that they changed
	reportEvery = time.Minute      // though nothing changed
	tendEvery   = 15 * time.Minute // the policy
	silentAfter = 3 * time.Minute
	forgetAfter = 30 * day
)

// NodeState is how a node stands to what the records say.
type NodeState string

// States of nodes.
const (
	Converged  NodeState = "converged"  // it signs with what it should
	Converging NodeState = "converging" // it has not said so yet
	Failing    NodeState = "failing"    // it cannot
	Silent     NodeState = "silent"     // it has not been heard of for 3 minutes
)

// NodeStatus is a report, and what should be in it.
type NodeStatus struct {
	Report
	State NodeState
	Want  map[string]string
}

// Nodes are all nodes that report, and whether each signs with what the records say.
func (r *Realm) Nodes(ctx context.Context) ([]NodeStatus, error) {
	reports, err := r.cfg.Store.Reports(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return nil, err
	}
	var out []NodeStatus
	for _, p := range reports {
		s := NodeStatus{Report: p, State: Converged, Want: signingHere(reachable(rec.Keys, p.Node))}
		switch {
		case r.now().Sub(p.Seen) > silentAfter:
			s.State = Silent
		case p.Problem != "":
			s.State = Failing
		case !maps.Equal(p.Signing, s.Want):
			s.State = Converging
		}
		out = append(out, s)
	}
	return out, nil
}

// ForgetNode ends the report of a node that left.
func (r *Realm) ForgetNode(ctx context.Context, node string) error {
	return r.cfg.Store.ForgetNode(ctx, node)
}

// forgetSilent ends the reports of nodes that nobody has heard of for a month.
func (r *Realm) forgetSilent(ctx context.Context) error {
	all, err := r.cfg.Store.Reports(ctx)
	for _, p := range all {
		if r.now().Sub(p.Seen) > forgetAfter {
			err = errors.Join(err, r.cfg.Store.ForgetNode(ctx, p.Node))
		}
	}
	return err
}

// signingHere is the kid of each key that signs.
func signingHere(keys []Key) map[string]string {
	out := map[string]string{}
	for _, k := range keys {
		if s, err := signing(keys, k.Use, k.Algorithm); err == nil && s.ID == k.ID {
			out[string(k.Use)+" "+string(k.Algorithm)] = k.KID
		}
	}
	return out
}

// lookOnce reads the keys, makes and destroys what this node has to, and reports what it
// signs with; an unchanged report only where last is a minute old.
func (r *Realm) lookOnce(ctx context.Context, last Report) (Report, error) {
	now := Report{Node: r.cfg.Node, Seen: r.now().UTC()}
	err := r.attend(ctx)
	if err != nil {
		now.Problem = err.Error()
	}
	rec, rerr := r.cfg.Store.Realm(ctx)
	if rerr != nil {
		return last, errors.Join(err, rerr)
	}
	now.Signing = signingHere(r.here(rec.Keys))
	if perr := r.opens(ctx, rec.Keys, now.Signing); perr != nil {
		now.Problem = perr.Error()
	}
	if maps.Equal(now.Signing, last.Signing) && now.Problem == last.Problem && now.Seen.Sub(last.Seen) < reportEvery {
		return last, err
	}
	if rerr := r.cfg.Store.Report(ctx, now); rerr != nil {
		return last, errors.Join(err, rerr)
	}
	return now, err
}

// attend makes keys that this node lacks and ends those that it has to.
func (r *Realm) attend(ctx context.Context) error {
	if err := r.complete(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil || !r.unfinished(rec.Keys) {
		return err
	}
	return r.finishDestruction(ctx, rec.Keys)
}

// opens checks that the vault has what this node signs with.
func (r *Realm) opens(ctx context.Context, keys []Key, kids map[string]string) error {
	for _, k := range keys {
		if kids[string(k.Use)+" "+string(k.Algorithm)] != k.KID {
			continue
		}
		s, err := r.cfg.Vault.Signer(ctx, k.Material)
		if err != nil {
			return fmt.Errorf("realm key %s: %w", k.Name, err)
		}
		spki, err := x509.MarshalPKIXPublicKey(s.Public())
		if err == nil && kidOf(spki) != k.KID {
			return fmt.Errorf("realm key %s: the vault has another key under its name", k.Name)
		}
	}
	return nil
}

// Run tends the keys until ctx ends, and reports what this node signs with at every
// change.
func (r *Realm) Run(ctx context.Context) {
	var notices <-chan struct{}
	if r.cfg.Changes != nil {
		notices = r.cfg.Changes(ctx)
	}
	var last Report
	var tended time.Time
	problem := ""
	for ctx.Err() == nil {
		var err error
		if now := r.now(); now.Sub(tended) >= tendEvery {
			tended, err = now, r.Tend(ctx)
		}
		var lerr error
		last, lerr = r.lookOnce(ctx, last)
		if err = errors.Join(err, lerr); err != nil && ctx.Err() == nil && err.Error() != problem {
			r.cfg.Log.ErrorContext(ctx, "tending the realm keys", slog.Any("err", err))
		}
		problem = ""
		if err != nil {
			problem = err.Error()
		}
		notices = r.pause(ctx, notices)
	}
}

// pause waits for a change, or for as long as one may go unnoticed.
func (r *Realm) pause(ctx context.Context, notices <-chan struct{}) <-chan struct{} {
	t := time.NewTimer(r.look)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-r.changed:
	case _, open := <-notices:
		if !open {
			return nil
		}
	}
	return notices
}
