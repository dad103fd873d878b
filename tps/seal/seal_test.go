package seal_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tps/seal"
)

// memKey is a wrapping key in memory.
type memKey struct {
	label, token string
	id           []byte
	key          []byte
	nonce        []byte // nil: random
	fail         error  // of every call
	noKCV        bool
}

func newKey(label string, fill byte) *memKey {
	return &memKey{label: label, token: "test", id: []byte{0x53, 0, 0x11, 0x22, 0x33, 1, 0, 0}, key: bytes.Repeat([]byte{fill}, 32)}
}

func (k *memKey) Describe() seal.KeyDescription {
	d := seal.KeyDescription{Kind: seal.KindPKCS11, Label: k.label, ID: k.id, Token: k.token, Serial: "e67ca9d17cb7008a"}
	if !k.noKCV {
		b, _ := aes.NewCipher(k.key)
		var out [16]byte
		b.Encrypt(out[:], out[:])
		d.KCV = out[:3]
	}
	return d
}

func (k *memKey) gcm() cipher.AEAD {
	b, err := aes.NewCipher(k.key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return a
}

func (k *memKey) Wrap(_ context.Context, dataKey secret.Secret, aad []byte) (seal.Wrapped, error) {
	if k.fail != nil {
		return seal.Wrapped{}, k.fail
	}
	nonce := k.nonce
	if nonce == nil {
		nonce = secret.Random(12).Bytes()
	}
	return seal.Wrapped{Mechanism: seal.MechanismGCM, Nonce: nonce, Data: k.gcm().Seal(nil, nonce, dataKey.Bytes(), aad)}, nil
}

func (k *memKey) Unwrap(_ context.Context, w seal.Wrapped, aad []byte) (secret.Secret, error) {
	if k.fail != nil {
		return secret.Secret{}, k.fail
	}
	if len(w.Nonce) != 12 {
		return secret.Secret{}, errors.New("nonce")
	}
	b, err := k.gcm().Open(nil, w.Nonce, w.Data, aad)
	return secret.New(b), err
}

// keyring finds memKeys by label.
type keyring []*memKey

func (r keyring) Key(_ context.Context, label string, _ []byte) (seal.WrappingKey, error) {
	for _, k := range r {
		if k.label == label {
			return k, nil
		}
	}
	return nil, &seal.Error{Code: seal.KeyMissing, Cause: fmt.Errorf("no key %s", label)}
}

// fileAnchor is an anchor that outlives the process.
type fileAnchor struct {
	dir string
}

func (a *fileAnchor) path(r seal.Role) string { return filepath.Join(a.dir, string(r)) }

func (a *fileAnchor) Generation(_ context.Context, _ seal.InstanceID, r seal.Role) (uint64, error) {
	b, err := os.ReadFile(a.path(r))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(b), 10, 64)
}

func (a *fileAnchor) SetGeneration(_ context.Context, _ seal.InstanceID, r seal.Role, g uint64) error {
	return durable.ReplaceFile(a.path(r), []byte(strconv.FormatUint(g, 10)), 0o600)
}

func (a *fileAnchor) Forget(_ context.Context, _ seal.InstanceID, r seal.Role) error {
	return durable.Remove(a.path(r))
}

const role seal.Role = "inkan.toml"

var instance = seal.InstanceID{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF}

// bench is a folder with a key and an anchor.
type bench struct {
	dir    string
	key    *memKey
	anchor *fileAnchor
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return &bench{dir: t.TempDir(), key: newKey("tms:seal:00112233:v01", 7), anchor: &fileAnchor{dir: t.TempDir()}}
}

// sealer opens the folder as a new process would.
func (b *bench) sealer(change ...func(*seal.Config)) *seal.Sealer {
	cfg := seal.Config{Dir: b.dir, Instance: instance, Openers: []seal.Opener{seal.With(keyring{b.key})},
		Slots: []seal.Protector{seal.Under(b.key)}, Anchor: b.anchor, Program: "test"}
	for _, f := range change {
		f(&cfg)
	}
	return seal.New(cfg)
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// save writes contents as generations 1, 2, …
func save(t testing.TB, s *seal.Sealer, contents ...string) {
	t.Helper()
	for _, c := range contents {
		var g uint64
		if f, err := s.Inspect(role); err == nil {
			g = f.Generation
		}
		got, err := s.Save(t.Context(), role, g, []byte(c))
		must(t, err)
		if got != g+1 {
			t.Fatalf("generation %d after %d", got, g)
		}
	}
}

func wants(t testing.TB, s *seal.Sealer, want string) {
	t.Helper()
	o, err := s.Open(t.Context(), role)
	must(t, err)
	defer o.Wipe()
	if string(o.Bytes()) != want {
		t.Errorf("opened %q, want %q", o.Bytes(), want)
	}
}

func refused(t testing.TB, s *seal.Sealer, want seal.Code) {
	t.Helper()
	o, err := s.Open(t.Context(), role)
	if o != nil || !errors.Is(err, want) {
		t.Errorf("opened %v, %v; want %s", o, err, want)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func TestSaveAndOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	big := strings.Repeat("ä", seal.MaxPlaintext/2)
	for _, c := range []string{"pin = \"1234\"\n", "", "κλειδί = \"鍵\"\n", big} {
		save(t, s, c)
		wants(t, s, c)
		wants(t, b.sealer(), c)
		if len(c) > 4 && bytes.Contains(read(t, b.file(role.File())), []byte(c[:4])) {
			t.Error("the plaintext is in the file")
		}
	}
	if _, err := s.Save(t.Context(), role, 4, make([]byte, seal.MaxPlaintext+1)); err == nil {
		t.Error("sealed more than the format has room for")
	}
	st, err := os.Stat(b.file(role.File()))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	entries, err := os.ReadDir(b.dir)
	must(t, err)
	if len(entries) != 3 { // the file, the one before, the lock
		t.Errorf("left in the folder: %v", entries)
	}
}

func TestOpenedShowsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "pin = 1234")
	o, err := s.Open(t.Context(), role)
	must(t, err)
	for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if out := fmt.Sprintf(f, o); strings.Contains(out, "1234") || strings.Contains(out, "31323334") {
			t.Errorf("%s prints %s", f, out)
		}
	}
	o.Wipe()
	if bytes.Contains(o.Bytes(), []byte("1234")) {
		t.Error("not wiped")
	}
}

func TestEveryWriteHasANewKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "same")
	first := read(t, b.file(role.File()))
	save(t, s, "same")
	second := read(t, b.file(role.File()))
	f1, err := seal.Parse(first)
	must(t, err)
	f2, err := seal.Parse(second)
	must(t, err)
	if bytes.Equal(f1.Slots[0].Wrapped(), f2.Slots[0].Wrapped()) || !bytes.Equal(f2.Previous, f1.Hash[:]) {
		t.Error("the second write has the first one's key, or does not follow it")
	}
	if !bytes.Equal(read(t, b.file(role.Prev())), first) {
		t.Error("the generation before is not kept")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want seal.Code
		do   func(*testing.T, *bench) *seal.Sealer // after three generations
	}{
		{"gone", seal.SealedMissing, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.Remove(b.file(role.File())))
			return b.sealer()
		}},
		{"rolled back", seal.Rollback, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.WriteFile(b.file(role.File()), read(t, b.file(role.Prev())), 0o600))
			return b.sealer()
		}},
		{"anchor behind", seal.AnchorBehind, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, b.anchor.SetGeneration(t.Context(), instance, role, 1))
			return b.sealer()
		}},
		{"ahead of the anchor without its predecessor", seal.AnchorBehind, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, b.anchor.SetGeneration(t.Context(), instance, role, 2))
			must(t, os.Remove(b.file(role.Prev())))
			return b.sealer()
		}},
		{"another instance", seal.Identity, func(t *testing.T, b *bench) *seal.Sealer {
			return b.sealer(func(c *seal.Config) { c.Instance[0] ^= 1 })
		}},
		{"another role", seal.Identity, func(t *testing.T, b *bench) *seal.Sealer {
			_, err := b.sealer().Save(t.Context(), "passphrase", 0, []byte("correct horse"))
			must(t, err)
			must(t, os.Rename(b.file("passphrase.sealed"), b.file(role.File())))
			return b.sealer()
		}},
		{"key gone", seal.KeyMissing, func(t *testing.T, b *bench) *seal.Sealer {
			return b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{seal.With(keyring{})} })
		}},
		{"no opener", seal.KeyMissing, func(t *testing.T, b *bench) *seal.Sealer {
			return b.sealer(func(c *seal.Config) { c.Openers = nil })
		}},
		{"another key of the same label", seal.WrongKey, func(t *testing.T, b *bench) *seal.Sealer {
			b.key = newKey(b.key.label, 8)
			return b.sealer()
		}},
		{"another key without check value", seal.WrongKey, func(t *testing.T, b *bench) *seal.Sealer {
			b.key = newKey(b.key.label, 8)
			b.key.noKCV = true
			return b.sealer()
		}},
		{"HSM away", seal.HSMUnreachable, func(t *testing.T, b *bench) *seal.Sealer {
			b.key.fail = errors.New("CKR_DEVICE_ERROR")
			return b.sealer()
		}},
		{"wrong PIN", seal.PIN, func(t *testing.T, b *bench) *seal.Sealer {
			b.key.fail = &seal.Error{Code: seal.PIN, Cause: errors.New("CKR_PIN_INCORRECT")}
			return b.sealer()
		}},
		{"plain text", seal.PlaintextFound, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.WriteFile(b.file(role.File()), []byte("[tps]\nallow_simulator = true\n"), 0o600))
			return b.sealer()
		}},
		{"empty", seal.Damaged, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.Truncate(b.file(role.File()), 0))
			return b.sealer()
		}},
		{"not UTF-8", seal.Damaged, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.WriteFile(b.file(role.File()), []byte{0xFF, 0xFE, 'x'}, 0o600))
			return b.sealer()
		}},
		{"others may read it", seal.Permission, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.Chmod(b.file(role.File()), 0o640))
			return b.sealer()
		}},
		{"a folder in its place", seal.Permission, func(t *testing.T, b *bench) *seal.Sealer {
			must(t, os.Remove(b.file(role.File())))
			must(t, os.Mkdir(b.file(role.File()), 0o700))
			return b.sealer()
		}},
		{"expired", seal.Expired, func(t *testing.T, b *bench) *seal.Sealer {
			until := time.Now().Add(time.Hour)
			_, err := b.sealer().Reseal(t.Context(), role, seal.ResealOptions{NotAfter: &until})
			must(t, err)
			return b.sealer(func(c *seal.Config) { c.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } })
		}},
		{"slot of another generation", seal.Tampered, func(t *testing.T, b *bench) *seal.Sealer {
			now, before := read(t, b.file(role.File())), read(t, b.file(role.Prev()))
			at := bytes.Index(now, []byte{0, 9, 0, 12}) // nonce and wrapped key of the slot
			copy(now[at:at+16+52], before[at:])
			must(t, os.WriteFile(b.file(role.File()), seal.Retrail(now), 0o600))
			return b.sealer()
		}},
		{"content altered", seal.Tampered, func(t *testing.T, b *bench) *seal.Sealer {
			now := read(t, b.file(role.File()))
			now[len(now)-32-16-1] ^= 1
			must(t, os.WriteFile(b.file(role.File()), seal.Retrail(now), 0o600))
			return b.sealer()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			save(t, b.sealer(), "one", "two", "three")
			refused(t, c.do(t, b), c.want)
		})
	}
}

// TestWriteRefusals: what cannot be opened is not overwritten either.
func TestWriteRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "one", "two")
	if _, err := s.Save(t.Context(), role, 1, nil); !errors.Is(err, seal.Conflict) {
		t.Errorf("a write over an unread generation: %v", err)
	}
	if _, err := s.Save(t.Context(), "../x", 0, nil); err == nil {
		t.Error("a role that is a path was written")
	}
	good := read(t, b.file(role.File()))
	b.key.fail = errors.New("CKR_DEVICE_ERROR")
	if _, err := s.Save(t.Context(), role, 2, []byte("three")); !errors.Is(err, seal.HSMUnreachable) {
		t.Errorf("a write without HSM: %v", err)
	}
	b.key.fail = nil
	must(t, os.WriteFile(b.file(role.File()), []byte("plain"), 0o600))
	if _, err := s.Save(t.Context(), role, 2, []byte("three")); !errors.Is(err, seal.PlaintextFound) {
		t.Errorf("a write over plain text: %v", err)
	}
	must(t, os.Remove(b.file(role.File())))
	if _, err := s.Save(t.Context(), role, 0, []byte("three")); !errors.Is(err, seal.SealedMissing) {
		t.Errorf("a first write where there was one: %v", err)
	}
	must(t, os.WriteFile(b.file(role.File()), good, 0o600))
	wants(t, s, "two")
	lying := *b.key
	lying.fail = nil
	if _, err := b.sealer(func(c *seal.Config) { c.Slots = []seal.Protector{seal.Under(liar{&lying})} }).Save(t.Context(), role, 2, nil); err == nil {
		t.Error("sealed under a key that gives something else back")
	}
	wants(t, s, "two")
}

// liar unwraps to zeros.
type liar struct{ *memKey }

func (liar) Unwrap(context.Context, seal.Wrapped, []byte) (secret.Secret, error) {
	return secret.New(make([]byte, 32)), nil
}

func TestUnwritableFolder(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	b := newBench(t)
	save(t, b.sealer(), "one")
	must(t, os.Chmod(b.dir, 0o500))
	defer os.Chmod(b.dir, 0o700)
	if _, err := b.sealer().Save(t.Context(), role, 1, []byte("two")); !errors.Is(err, seal.Permission) {
		t.Errorf("%v", err)
	}
	wants(t, b.sealer(), "one")
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	identity, recipient, err := seal.NewRecoveryKey()
	must(t, err)
	toAge, err := seal.ForAge(recipient)
	must(t, err)
	cost := seal.FloorCost()
	words := secret.New([]byte("grace hopper's cat"))
	toWords, err := seal.ForPassphrase(words, &cost)
	must(t, err)
	byAge, err := seal.WithIdentity(secret.New([]byte("# paper\n" + string(identity.Bytes()) + "\n")))
	must(t, err)
	stranger, _, err := seal.NewRecoveryKey()
	must(t, err)
	byStranger, err := seal.WithIdentity(stranger)
	must(t, err)

	b := newBench(t)
	s := b.sealer(func(c *seal.Config) { c.Slots = append(c.Slots, toAge, toWords) })
	save(t, s, "one", "two")
	with := func(o seal.Opener) *seal.Sealer {
		return b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{o} })
	}
	wants(t, with(byAge), "two")
	wants(t, with(seal.WithPassphrase(words)), "two")
	refused(t, with(byStranger), seal.WrongKey)
	refused(t, with(seal.WithPassphrase(secret.New([]byte("grace hopper's dog")))), seal.WrongKey)

	// The HSM is lost, with key and anchor: a new one takes over.
	lost := b.key
	b.key = newKey("tms:seal:00112233:v02", 9)
	b.anchor = &fileAnchor{dir: t.TempDir()}
	refused(t, b.sealer(), seal.AnchorBehind)
	g, err := with(byAge).Recover(t.Context(), role, seal.Recovery{})
	must(t, err)
	if g != 3 {
		t.Errorf("recovered as generation %d", g)
	}
	wants(t, b.sealer(), "two")
	refused(t, b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{seal.With(keyring{lost})} }), seal.KeyMissing)
}

func TestRecoverGenerations(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "one")
	first := read(t, b.file(role.File()))
	save(t, s, "two", "three")
	must(t, os.Remove(b.file(role.File())))
	refused(t, s, seal.SealedMissing)
	g, err := s.Recover(t.Context(), role, seal.Recovery{FromPrev: true})
	must(t, err)
	wants(t, s, "two")
	if g != 4 {
		t.Errorf("generation %d, want one above all before", g)
	}
	must(t, os.WriteFile(b.file(role.File()), first, 0o600))
	for _, accept := range []uint64{0, 2} {
		if _, err := s.Recover(t.Context(), role, seal.Recovery{Generation: accept}); !errors.Is(err, seal.Rollback) {
			t.Errorf("accepting generation %d: %v", accept, err)
		}
	}
	_, err = s.Recover(t.Context(), role, seal.Recovery{Generation: 1})
	must(t, err)
	wants(t, s, "one")
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "one", "two", "three")
	must(t, b.anchor.SetGeneration(t.Context(), instance, role, 1))
	refused(t, s, seal.AnchorBehind)
	was, now, err := s.Adopt(t.Context(), role)
	must(t, err)
	if was != 1 || now != 3 {
		t.Errorf("adopted %d over %d", now, was)
	}
	wants(t, s, "three")
	must(t, b.anchor.SetGeneration(t.Context(), instance, role, 9))
	if _, _, err := s.Adopt(t.Context(), role); !errors.Is(err, seal.Rollback) {
		t.Errorf("adopted an old file: %v", err)
	}
}

// TestRotate: slots of two keys, then of the new one only; the old key does not
// open any more.
func TestRotate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	old, fresh := b.key, newKey("tms:seal:00112233:v02", 9)
	s := b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{seal.With(keyring{old, fresh})} })
	save(t, s, "one")
	_, err := s.Reseal(t.Context(), role, seal.ResealOptions{Slots: []seal.Protector{seal.Under(old), seal.Under(fresh)}})
	must(t, err)
	by := func(k *memKey) *seal.Sealer {
		return b.sealer(func(c *seal.Config) { c.Openers = []seal.Opener{seal.With(keyring{k})} })
	}
	wants(t, by(old), "one")
	wants(t, by(fresh), "one")
	_, err = s.Reseal(t.Context(), role, seal.ResealOptions{Slots: []seal.Protector{seal.Under(fresh)}})
	must(t, err)
	refused(t, by(old), seal.KeyMissing)
	wants(t, by(fresh), "one")
}

func TestDrop(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sealer()
	save(t, s, "one", "two")
	must(t, os.WriteFile(b.file(".inkan.toml.sealed.new-1"), nil, 0o600))
	if rs, err := seal.Roles(b.dir); err != nil || len(rs) != 1 || rs[0] != role {
		t.Errorf("roles %v, %v", rs, err)
	}
	must(t, s.Drop(t.Context(), role))
	if rs, err := seal.Roles(b.dir); err != nil || len(rs) != 0 {
		t.Errorf("roles %v, %v", rs, err)
	}
	if left, err := seal.Leftovers(b.dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	save(t, s, "again")
	wants(t, s, "again")
}

// TestReadersAndWriters: readers see whole generations that only grow, and two
// writers never lose each other's change.
func TestReadersAndWriters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	save(t, b.sealer(), "0")
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 64 {
		s := b.sealer() // each as a process of its own: they share the file lock only
		if i < 32 {
			s = b.sealer()
		}
		readers.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				o, err := s.Open(t.Context(), role)
				if err != nil {
					t.Error(err)
					return
				}
				if n, _ := strconv.ParseUint(string(o.Bytes()), 10, 64); n != o.Generation()-1 || o.Generation() < last {
					t.Errorf("generation %d after %d holds %s", o.Generation(), last, o.Bytes())
				}
				last = o.Generation()
				time.Sleep(5 * time.Millisecond) // leave the folder to others
			}
		})
	}
	const each = 10
	for range 2 {
		s := b.sealer()
		writers.Go(func() {
			for done := 0; done < each; {
				o, err := s.Open(t.Context(), role)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = s.Save(t.Context(), role, o.Generation(), []byte(strconv.FormatUint(o.Generation(), 10)))
				switch {
				case err == nil:
					done++
				case !errors.Is(err, seal.Conflict):
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	wants(t, b.sealer(), strconv.Itoa(2*each))
}

func TestCodes(t *testing.T) {
	t.Parallel()
	for i, c := range seal.Codes() {
		if c == "" || c.Number() != i+10 || c.Hint() == "" {
			t.Errorf("code %d is %q, %d, hint %q", i+10, c, c.Number(), c.Hint())
		}
	}
	err := fmt.Errorf("starting: %w", &seal.Error{Code: seal.Rollback, Role: role, Cause: errors.New("old")})
	if !errors.Is(err, seal.Rollback) || errors.Is(err, seal.Damaged) || seal.CodeOf(err) != seal.Rollback ||
		!strings.Contains(err.Error(), "ROLLBACK (21)") || !strings.Contains(err.Error(), "accept-generation") {
		t.Error(err)
	}
}

type vector struct {
	Instance    seal.InstanceID
	Role        seal.Role
	Generation  uint64
	SealedAt    int64  `json:"sealed_at"`
	DataKey     string `json:"data_key"`
	Nonce       string `json:"payload_nonce"`
	ContentType string `json:"content_type"`
	Plaintext   string
	Slot        struct{ Label, ID, KCV, Token, Serial, IV, Key string }
	Binding     string
	Wrapped     string
	Header      int    `json:"header_length"`
	SHA256      string `json:"sha256"`
	File        string
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var doc struct{ Vectors []vector }
	must(t, json.Unmarshal(read(t, "../../fixtures/vectors/config_seal.json"), &doc))
	if len(doc.Vectors) == 0 {
		t.Fatal("no vectors")
	}
	return doc.Vectors
}
