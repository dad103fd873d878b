package sealing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

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
	d.backups()
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
			if _, err := os.Lstat(plainFile(d.folder, r)); err == nil {
				d.warn("plain text", "the next start removes it if it says the same; else: inkan config seal", "%s lies beside its sealed file", roles[r].file)
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
	for _, p := range b.Slots {
		d.fine("key slot", "%s opens the files too", p)
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
	}
	return d.token(found[0])
}

// token reports whether the PIN of a token may be tried.
func (d *doctor) token(t Token) bool {
	switch {
	case strings.Contains(t.PINState, "locked"):
		d.fail("token", &seal.Error{Code: seal.PIN, Cause: fmt.Errorf("%s: %s", t.Label, t.PINState), Hint: "the security officer of the token sets a new PIN; put it into the PIN source"})
		return false
	case t.PINState != "":
		d.warn("token", "be sure of the PIN before it is tried again", "%s: %s", t.Label, t.PINState)
		return !strings.Contains(t.PINState, "ONE try")
	}
	d.fine("token", "%s, serial %s", t.Label, t.Serial)
	return true
}
