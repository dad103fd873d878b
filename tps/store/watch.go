package store

import (
	"context"
	"sync"
)

// Topic is a part of the records whose changes can be watched.
type Topic string

// Topics.
const (
	TopicRealm    Topic = "realm"    // keys that sign the node's own tokens, not-before
	TopicProfiles Topic = "profiles" // profiles
	TopicMappings Topic = "mappings" // profile mappings
	TopicUsers    Topic = "users"    // local users
)

// topics are all of them.
var topics = []Topic{TopicRealm, TopicProfiles, TopicMappings, TopicUsers}

// Watch returns a channel that names a topic after somebody has changed it: this
// process, and on PostgreSQL every other node. It is a hint to look again, not a
// count: several changes may come as one, and a topic may come without a change.
// None is missed: where notices could have been lost, and on PostgreSQL every 30
// seconds (5 while it cannot be listened to), all topics come. The channel closes
// when ctx ends; a reader that is slow holds up nobody. Each call on PostgreSQL
// takes a connection of its own.
func (db *DB) Watch(ctx context.Context) <-chan Topic {
	out := make(chan Topic)
	n := &notices{pending: map[Topic]bool{}, more: make(chan struct{}, 1)}
	db.engine.watch(ctx, n.add)
	go n.pass(ctx, out)
	return out
}

// notices are topics that wait to be read, each once.
type notices struct {
	mu      sync.Mutex
	pending map[Topic]bool
	more    chan struct{}
}

func (n *notices) add(t Topic) {
	n.mu.Lock()
	n.pending[t] = true
	n.mu.Unlock()
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// next takes one that waits, in the order of topics; empty: there is none.
func (n *notices) next() Topic {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range topics {
		if n.pending[t] {
			delete(n.pending, t)
			return t
		}
	}
	return ""
}

// pass hands on what comes until ctx ends.
func (n *notices) pass(ctx context.Context, out chan<- Topic) {
	defer close(out)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.more:
		}
		for t := n.next(); t != ""; t = n.next() {
			select {
			case <-ctx.Done():
				return
			case out <- t:
			}
		}
	}
}

// watchers are the watchers within one process.
type watchers struct {
	mu  sync.Mutex
	all map[*func(Topic)]bool
}

func (w *watchers) tell(t Topic) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.all {
		(*f)(t)
	}
}

func (w *watchers) watch(ctx context.Context, tell func(Topic)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*func(Topic)]bool{}
	}
	w.all[&tell] = true
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, &tell)
	})
}
