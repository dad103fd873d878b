package sealing

import (
	"context"
	"errors"
	"os"
	"time"

	"inkan/cli/config"
	"inkan/tps/store"
)

// clocksApart is by how much the clocks of a node and its database may differ
// before somebody should look at them. Locks do not depend on it, times that people
// read do.
const clocksApart = 5 * time.Second

// database asks a PostgreSQL server whether it would do, and changes nothing in it.
func (d *doctor) database(ctx context.Context, c config.Database) {
	if c.URL == "" {
		return
	}
	path := func(name string) string { return Within(d.folder, name) }
	if c.PasswordFile != "" {
		if st, err := os.Stat(path(c.PasswordFile)); err == nil && st.Mode().Perm()&0o077 != 0 {
			d.warn("database password", "chmod 600 "+path(c.PasswordFile), "%s has mode %04o: others read it", path(c.PasswordFile), st.Mode().Perm())
		}
	}
	p, err := postgres(c, path)
	if err != nil {
		d.fail("database", err)
		return
	}
	defer p.Password.Wipe()
	i, err := store.AskPostgres(ctx, p)
	if err == nil {
		err = i.Usable()
	}
	switch {
	case errors.Is(err, store.ErrNewer):
		d.add(Finding{Check: "database", Verdict: Failed, Evidence: err.Error(), Next: "use the program that the other nodes run"})
		return
	case err != nil:
		d.fail("database", err)
		return
	}
	d.fine("database", "PostgreSQL %d, %s", i.Version, i.Place)
	if i.Migration < i.Known {
		d.fine("tables", "version %d, the next start brings them to %d", i.Migration, i.Known)
	} else {
		d.fine("tables", "version %d", i.Migration)
	}
	if !i.Fsync {
		d.warn("database disk", "set fsync and full_page_writes of the server on", "a power cut of the server's machine may destroy the database")
	}
	if !i.Encrypted && !i.Local {
		d.warn("database network", "sslmode=verify-full in [database] url", "the way to the server is not encrypted")
	}
	if i.Skew.Abs() > clocksApart {
		d.warn("clock", "let both machines take the time from the network (chrony, systemd-timesyncd)",
			"the clock of the database server is %s from this machine's", i.Skew.Round(time.Millisecond))
	} else {
		d.fine("clock", "the database server's differs by %s", i.Skew.Round(time.Millisecond))
	}
}
