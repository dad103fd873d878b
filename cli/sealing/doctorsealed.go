package sealing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"inkan/cli/config"
	"inkan/tps/seal"
	"io/fs"
	"os"
	"time"
)

// sealed tries the key and every file.
func (d *doctor) sealed(ctx context.Context, boot seal.Bootstrap) (config.Config, bool) {
	usable := false
	for _, p := range boot.Places() {
		usable = (p.URI == "" || d.hsm(p.URI)) || usable
	}
	if !usable || !d.login {
		d.files(ctx, boot, nil)
		return config.Config{}, false
	}
	s, err := Open(ctx, d.folder, boot, d.o)
	if err != nil {
		d.busyOr("login", err)
		d.files(ctx, boot, nil)
		return config.Config{}, false
	}
	defer s.Close()
	d.fine("login", "%s opens", s.first().at)
	d.key(ctx, s)
	if !d.files(ctx, boot, s) {
		return config.Config{}, false
	}
	c, o, err := s.Config(ctx)
	if err != nil {
		return c, false // files has said so
	}
	o.Wipe()
	return c, true
}

func (d *doctor) key(ctx context.Context, s *Folder) {
	key, err := s.key(ctx)
	if err == nil {
		err = seal.Probe(ctx, key)
	}
	if err != nil {
		d.fail("sealing key", err)
		return
	}
	r := s.report(ctx, key)
	d.fine("sealing key", "%s wraps and unwraps by %s, check value %s", r.Key, r.Mechanism, r.KCV)
}

// files checks each sealed file, and opens it with s where that is there.
func (d *doctor) files(ctx context.Context, boot seal.Bootstrap, s *Folder) bool {
	plain := seal.New(seal.Config{Dir: d.folder, Instance: boot.Instance})
	all := true
	for _, r := range boot.Roles {
		f, err := plain.Inspect(r)
		if unmade(r, err) {
			d.fine(r.File(), "the node makes it when it needs it")
			continue
		}
		if err == nil && s != nil {
			st := fileStatus(ctx, plain, s, r)
			if st.Code != "" || st.Error != "" {
				_, err = s.Open(ctx, r)
				if err == nil {
					_, _, err = s.Config(ctx)
				}
			}
		}
		if err != nil {
			all = false
			d.fail(r.File(), err)
			continue
		}
		if ahead := time.Until(f.SealedAt); ahead > 5*time.Minute {
			d.warn("clock", "set the clock of this machine", "%s was sealed %s in the future", r.File(), ahead.Round(time.Second))
		}
		how := "is whole"
		if s != nil {
			how = "opens"
		}
		d.fine(r.File(), "generation %d of %s %s", f.Generation, f.SealedAt.Format(time.DateTime), how)
		if _, err := os.Lstat(Within(d.folder, r.Prev())); errors.Is(err, fs.ErrNotExist) && f.Generation > 1 {
			d.warn(r.Prev(), "inkan config reseal makes it again", "the generation before is not there to go back to")
		}
	}
	return all
}

// renewBefore is how long before its end a certificate is spoken of.
const renewBefore = 30 * 24 * time.Hour

// certificate checks the chain and key of a certificate from elsewhere.
func (d *doctor) certificate(c config.Config) {
	if c.Listen.Certificate == "" {
		return
	}
	cert, key := Within(d.folder, c.Listen.Certificate), Within(d.folder, c.Listen.Key)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		d.fail("server certificate", &seal.Error{Code: seal.DependencyMissing, Cause: fmt.Errorf("[listen] certificate %s with key %s: %w", cert, key, err),
			Hint: "put the certificate chain and its key there"})
		return
	}
	if left := time.Until(pair.Leaf.NotAfter); left < renewBefore {
		d.warn("server certificate", "get a new one", "it ends on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
		return
	}
	d.fine("server certificate", "%s, to %s", cert, pair.Leaf.NotAfter.Format(time.DateOnly))
}

// backupAge is how old the newest backup may be before it is spoken of.
const backupAge = 31 * 24 * time.Hour

// backups looks at the newest backup that the folder remembers.
func (d *doctor) backups() {
	all, err := Backups(d.folder)
	if err != nil {
		d.fail("backup", err)
		return
	}
	if len(all) == 0 {
		d.warn("backup", "inkan backup --to FILE, elsewhere", "this folder remembers none")
		return
	}
	last := all[len(all)-1]
	if age := time.Since(last.Created); age > backupAge {
		d.warn("backup", "inkan backup --to FILE, elsewhere", "the newest is of %s: %s", last.Created.Format(time.DateOnly), last.Path)
		return
	}
	d.fine("backup", "%s of %s", last.Path, last.Created.Format(time.DateTime))
}
