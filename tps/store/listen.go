package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is the NOTIFY channel; the payload is the topic.
const channel = "inkan"

// How long a watcher waits without a notice before it has everything looked at
// again: while it listens, and while it cannot.
const (
	listening = 30 * time.Second
	polling   = 5 * time.Second
)

func (s *server) watch(ctx context.Context, tell func(Topic)) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(s.closed, cancel)
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			_ = s.listen(ctx, tell) // for what reason ever: from now on we poll
			tellAll(tell)
			pause(ctx, polling)
		}
	}()
}

// tellAll is for when notices may have been lost.
func tellAll(tell func(Topic)) {
	for _, t := range topics {
		tell(t)
	}
}

// listen tells of what the server says until its connection ends.
func (s *server) listen(ctx context.Context, tell func(Topic)) error {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // or the server sees it gone
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	tellAll(tell)
	for {
		wait, cancel := context.WithTimeout(ctx, listening)
		n, err := conn.WaitForNotification(wait)
		quiet := wait.Err() != nil
		cancel()
		switch {
		case err == nil:
			tell(Topic(n.Payload))
		case ctx.Err() != nil || !quiet:
			return err
		default: // nothing came: is the server still there?
			if err := ping(ctx, conn); err != nil {
				return err
			}
			tellAll(tell)
		}
	}
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, polling)
	defer cancel()
	return conn.Ping(ctx)
}
