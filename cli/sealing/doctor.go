package sealing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"inkan/cli/config"
	"inkan/tks/hsm/pkcs11"
	"inkan/tps/seal"
)

// Verdict on one check of the doctor.
type Verdict string

// Verdicts.
const (
	Fine    Verdict = "OK"
	Warning Verdict = "WARN" // works, and should not stay so
	Failed  Verdict = "FAIL" // the node does not start, or loses something
)

// Finding is one line of the doctor: what was looked at, what was seen, what to do.
type Finding struct {
	Check    string    `json:"Check"`
	Verdict  Verdict   `json:"Verdict"`
	Code     seal.Code `json:"Code,omitempty"`
	Number   int       `json:"Number,omitempty"`
	Evidence string    `json:"Evidence,omitempty"`
	Next     string    `json:"Next,omitempty"`
}

// doctor collects findings.
type doctor struct {
	folder string
	o      Options
	login  bool
	found  []Finding
}

// Diagnose looks for every cause that keeps a folder from opening, and changes
// nothing. With login it logs in to the HSM, once. A node may run meanwhile. The
// evidence of a failure is the text with which the node would refuse to start.
func Diagnose(ctx context.Context, folder string, login bool, o Options) []Finding {
	d := &doctor{folder: folder, o: o.Complete(), login: login}
	boot, err := Prepared(folder)
	d.folderItself()
	if err != nil {
		d.fail("configuration", err)
		if boot.Phase == "" {
			d.remains(boot)
			return d.found
		}
	}
	d.machine()
	d.remains(boot)
	if boot.Phase == "" {
		d.plain(ctx)
		return d.found
	}
	d.bootstrap(boot)
	c, ok := d.sealed(ctx, boot)
	if ok {
		d.certificate(c)
		d.database(ctx, c.Database)
	}
	return d.found
}

func (d *doctor) add(f Finding) { d.found = append(d.found, f) }

func (d *doctor) fine(check, format string, a ...any) {
	d.add(Finding{Check: check, Verdict: Fine, Evidence: fmt.Sprintf(format, a...)})
}

func (d *doctor) warn(check, next, format string, a ...any) {
	d.add(Finding{Check: check, Verdict: Warning, Evidence: fmt.Sprintf(format, a...), Next: next})
}

// fail adds an error with its code and what to do.
func (d *doctor) fail(check string, err error) {
	err = coded(err)
	f := Finding{Check: check, Verdict: Failed, Evidence: err.Error(), Code: seal.CodeOf(err)}
	f.Number = f.Code.Number()
	var e *seal.Error
	if errors.As(err, &e) {
		f.Next = e.Next()
		f.Evidence = strings.TrimSuffix(f.Evidence, "; next: "+f.Next)
	}
	if errors.Is(err, ErrNotPrepared) {
		f.Next = "inkan init, or inkan restore where there is a backup"
	}
	d.add(f)
}

// folderItself checks mode, owner, writing and space.
func (d *doctor) folderItself() {
	st, err := os.Stat(d.folder)
	if err != nil {
		d.fail("folder", err)
		return
	}
	if runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		d.warn("folder", "chmod 700 "+d.folder, "%s has mode %04o: others look into it", d.folder, st.Mode().Perm())
	} else {
		d.fine("folder", "%s", d.folder)
	}
	if owner, err := OwnerOf(d.folder); err == nil && owner != ThisUser() && ThisUser() != "0" {
		d.warn("owner", "run this as the owner of the folder", "the folder is user %s's, this is user %s", owner, ThisUser())
	}
	probe, err := os.CreateTemp(d.folder, ".doctor-*")
	if err != nil {
		d.fail("writing", fmt.Errorf("writing into the folder: %w", err))
		return
	}
	err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	if err != nil {
		d.fail("writing", err)
		return
	}
	d.fine("writing", "files can be made and removed")
	if err := seal.Room(d.folder, 1<<20); err != nil {
		d.fail("space", err)
		return
	}
	d.fine("space", "there is room for changes")
}

// machine checks what keeps secrets in memory.
func (d *doctor) machine() {
	for _, w := range memoryWarnings() {
		d.warn("memory", w.next, "%s", w.evidence)
	}
}

// remains looks for plain text, unfinished writes and an unfinished set-up.
func (d *doctor) remains(boot seal.Bootstrap) {
	if boot.Phase == seal.Enabling || boot.Phase == seal.Disabling {
		d.warn("set-up", "inkan config seal, or inkan config disable --to plain, again", "a change of the sealing was interrupted (%s): the plain files count", boot.Phase)
	}
	if left, err := seal.Leftovers(d.folder); err == nil && len(left) > 0 {
		d.warn("unfinished writes", "nothing: the next change removes them", "%s", strings.Join(left, ", "))
	}
	if boot.Phase == seal.Sealed {
		for _, r := range boot.Roles {
			if _, err := os.Lstat(Within(d.folder, plainNames[r])); err == nil {
				d.warn("plain text", "the next start removes it if it says the same; else: inkan config seal", "%s lies beside its sealed file", plainNames[r])
			}
		}
	}
	var odd []string
	for _, pattern := range []string{"*~", ".*.sw?", "*.bak", "*.orig", "core", "core.*", "*.toml.*"} {
		found, _ := filepath.Glob(filepath.Join(d.folder, pattern))
		for _, f := range found {
			if !strings.Contains(f, seal.Suffix) {
				odd = append(odd, filepath.Base(f))
			}
		}
	}
	if len(odd) > 0 {
		d.warn("remains of editors", "look at them and remove them: they may hold secrets", "%s", strings.Join(odd, ", "))
	}
}

// plain checks a folder that is not sealed.
func (d *doctor) plain(ctx context.Context) {
	doc, err := readPlainConfig(d.folder)
	if err != nil {
		d.fail("configuration", err)
		return
	}
	if _, err := readPlain(d.folder, RoleConfig); err != nil {
		d.fail("configuration", err)
	} else {
		d.fine("configuration", "it decodes")
	}
	d.warn("sealing", "inkan config seal", "the configuration lies in the clear in the folder")
	if doc.Config.HSM.URI != "" {
		d.hsm(doc.Config.HSM.URI)
	}
	d.certificate(doc.Config)
	d.database(ctx, doc.Config.Database)
	if !d.login {
		return
	}
	if !doc.Config.Node.Has(config.RoleTKS) {
		d.fine("keys", "they are at the nodes of the array that have the role tks")
		return
	}
	v, err := OpenVault(ctx, doc.Config.HSM, func(name string) string { return Within(d.folder, name) }, d.o)
	if err = coded(err); err != nil {
		d.busyOr("keys", err)
		return
	}
	defer v.Close()
	d.fine("keys", "they open")
}

// busyOr adds an error, which is only that a node runs where it is.
func (d *doctor) busyOr(check string, err error) {
	if errors.Is(err, seal.Locked) {
		d.warn(check, "stop the node to have them looked at", "a node has the key file open")
		return
	}
	d.fail(check, err)
}

// bootstrap checks what seal.toml chooses.
func (d *doctor) bootstrap(b seal.Bootstrap) {
	d.fine(seal.BootstrapFile, "instance %s, key %s", b.Instance, b.Key)
	if b.Recipient == "" {
		d.warn("recovery", "inkan config reseal --recovery age:RECIPIENT", "a lost HSM means a new configuration")
	} else {
		d.fine("recovery", "%s", seal.ShortRecipient(b.Recipient))
	}
	if b.Anchor == seal.AnchorNone {
		d.warn("anchor", changeAnchor, "old files that somebody puts back are not noticed")
	}
	if b.KeyFile != "" {
		d.warn("key", "use an HSM in production", "the sealing key is in the key file: whoever has the folder and its passphrase has the configuration")
	}
}

// hsm looks at module and token without logging in.
func (d *doctor) hsm(uri string) bool {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		d.fail("HSM", &seal.Error{Code: seal.Damaged, Cause: err})
		return false
	}
	tokens, err := Tokens(u.ModulePath, u.InitReserved)
	if err != nil {
		d.fail("module", err)
		return false
	}
	d.fine("module", "%s loads", u.ModulePath)
	var found []Token
	var seen []string
	for _, t := range tokens {
		seen = append(seen, fmt.Sprintf("%s (serial %s)", t.Label, t.Serial))
		if (u.Token == "" || t.Label == u.Token) && (u.Serial == "" || t.Serial == u.Serial) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 0:
		d.fail("token", &seal.Error{Code: seal.HSMUnreachable, Cause: fmt.Errorf("no token matches %s; the module has %s", uri, strings.Join(seen, ", "))})
		return false
	case len(found) > 1:
		d.fail("token", &seal.Error{Code: seal.HSMUnreachable, Cause: fmt.Errorf("%d tokens match %s", len(found), uri), Hint: "name the token by its serial number"})
		return false
	case found[0].PINState != "":
		d.warn("token", "be sure of the PIN before it is tried again", "%s: %s", found[0].Label, found[0].PINState)
		return !strings.Contains(found[0].PINState, "ONE try") && !strings.Contains(found[0].PINState, "locked")
	}
	d.fine("token", "%s, serial %s", found[0].Label, found[0].Serial)
	return true
}

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
		if errors.Is(err, seal.SealedMissing) && r == RoleServerKey {
			d.fine(r.File(), "the node makes it at its next start")
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
