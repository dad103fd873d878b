//go:build cgo && !windows

package pkcs11_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/kdf"
)

func uri(t testing.TB, s string) pkcs11.URI {
	t.Helper()
	u, err := pkcs11.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func open(t testing.TB, soft hsmtest.SoftToken) *pkcs11.Token {
	t.Helper()
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, soft.URI)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tok.Close() })
	return tok
}

func TestConformance(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	hsmtest.TestVault(t, func(t *testing.T) hsmtest.Token { return open(t, soft) })
}

// TestConformanceReduced: without the mechanisms that keep keys inside, or CMAC,
// the suite passes at a worse level.
func TestConformanceReduced(t *testing.T) {
	for _, c := range []struct {
		name     string
		disabled []string
		aes, des hsm.Level
	}{
		{"nothing", nil, hsm.LevelA, hsm.LevelB},
		{"derivation", []string{"CKM_AES_ECB_ENCRYPT_DATA", "CKM_DES3_ECB_ENCRYPT_DATA"}, hsm.LevelC, hsm.LevelC},
	} {
		t.Run("without="+c.name, func(t *testing.T) {
			soft := hsmtest.SoftHSM(t, c.disabled...)
			tok := open(t, soft)
			if a, d := tok.Protection(kdf.KDF3, hsm.AES192).Level, tok.Protection(kdf.VISA2, hsm.DES3).Level; a != c.aes || d != c.des {
				t.Errorf("levels %v and %v, want %v and %v; %v", a, d, c.aes, c.des, tok.Info().Strategies)
			}
			if c.disabled == nil {
				return // TestConformance
			}
			if err := tok.Close(); err != nil {
				t.Fatal(err)
			}
			hsmtest.TestVault(t, func(t *testing.T) hsmtest.Token { return open(t, soft) })
		})
	}
}

// TestWrapperMechanisms: without AES-GCM a token wraps by RFC 5649, without that by
// RFC 3394, and what one mechanism wrapped says so.
func TestWrapperMechanisms(t *testing.T) {
	for _, c := range []struct {
		name      string
		disabled  []string
		mechanism uint32
	}{
		{"nothing", nil, hsm.WrapGCM},
		{"GCM", []string{"CKM_AES_GCM"}, hsm.WrapKWP},
		{"GCM and KWP", []string{"CKM_AES_GCM", "CKM_AES_KEY_WRAP_PAD"}, hsm.WrapKW},
	} {
		t.Run("without="+c.name, func(t *testing.T) {
			tok := open(t, hsmtest.SoftHSM(t, c.disabled...))
			w, err := tok.GenerateWrapper(t.Context(), hsm.WrapperID{Version: 1})
			if err != nil {
				t.Fatal(err)
			}
			key := secret.Random(hsm.WrapperKeySize)
			got, err := w.Wrap(t.Context(), key, []byte("x"))
			if err != nil || got.Mechanism != c.mechanism {
				t.Fatalf("mechanism %X, %v", got.Mechanism, err)
			}
			if back, err := w.Unwrap(t.Context(), got, []byte("x")); err != nil || !back.Equal(key) {
				t.Error(err)
			}
			if (w.Info().KCV != nil) != (c.mechanism == hsm.WrapGCM) {
				t.Errorf("check value %X", w.Info().KCV)
			}
		})
	}
	tok := open(t, hsmtest.SoftHSM(t, "CKM_AES_GCM", "CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP"))
	_, err := tok.GenerateWrapper(t.Context(), hsm.WrapperID{Version: 1})
	var missing *hsm.MechanismError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "CKM_AES_GCM(0x1087)") || !strings.Contains(err.Error(), "CKM_AES_KEY_WRAP_KWP(0x210B)") {
		t.Errorf("%v does not name the mechanisms", err)
	}
}

// TestNamedEngine runs the suite on the token that INKAN_PKCS11_URI names: an HSM that
// nobody has here. It leaves keys of the set "suite" on it.
func TestNamedEngine(t *testing.T) {
	name := os.Getenv("INKAN_PKCS11_URI")
	if name == "" {
		t.Skip("needs an empty token; set INKAN_PKCS11_URI")
	}
	hsmtest.TestEngine(t, func(t *testing.T) hsmtest.Token {
		tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, name)})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", tok.Info())
		return tok
	})
}

// TestCMACByCBC: a token without AES-CMAC computes it out of CBC.
func TestCMACByCBC(t *testing.T) {
	soft := hsmtest.Engine{Name: "no CMAC", Sign: []uint{p11.CKM_AES_CMAC}}.Open(t)
	hsmtest.TestVault(t, func(t *testing.T) hsmtest.Token { return open(t, soft) })
}

// TestNoClearKeys: a token in which no clear key may be created is given keys by
// unwrapping. SoftHSM then does not know the length of an AES key: such a master key is
// refused, and does not stay.
func TestNoClearKeys(t *testing.T) {
	tok := open(t, hsmtest.Engine{Name: "no clear keys", Create: []uint{p11.CKO_SECRET_KEY}}.Open(t))
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES, kdf.HMAC} {
		if got := tok.Info().Strategies["hold "+c.String()+" keys of known value"]; !strings.HasPrefix(got, "C_UnwrapKey of CKK_") || !strings.HasSuffix(got, " by CKM_AES_KEY_WRAP") {
			t.Errorf("%v keys come in by %q", c, got)
		}
		if err := hsm.SelfTest(t.Context(), tok, c); err != nil {
			t.Error(err)
		}
	}
	for kt, code := range map[hsm.KeyType]kdf.Code{hsm.DES2: kdf.EMV, hsm.DES3: kdf.VISA2, hsm.HMACKey: kdf.DogtagSP800} {
		value := secret.Random(kt.Size())
		id := hsm.MasterID{Set: tks.KeySetName("maker-" + kt.String()), Version: 1, KDF: code}
		got, err := tok.ImportMasters(t.Context(), []hsm.MasterValue{{ID: id, Type: kt, Value: value}})
		if want, _ := kdf.KCV(kt.Cipher(), value.Bytes()); err != nil || got[0].KCV != want || got[0].Kind != kt {
			t.Errorf("%v: %+v, %v, want KCV %v", kt, got, err, want)
		}
	}
	id := hsm.MasterID{Set: "maker", Version: 1, KDF: kdf.KDF3}
	if _, err := tok.ImportMasters(t.Context(), []hsm.MasterValue{{ID: id, Type: hsm.AES128, Value: secret.Random(16)}}); err == nil || !strings.Contains(err.Error(), "CKA_VALUE_LEN") {
		t.Errorf("a key of unknown length was imported: %v", err)
	}
	if all, err := tok.Masters(t.Context()); err != nil || len(all) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestLongKeys: a token that knows 3DES keys of three parts only passes the suite but for
// master keys of two.
func TestLongKeys(t *testing.T) {
	soft := hsmtest.Engine{Name: "no keys of two parts", KeyTypes: []uint{p11.CKK_DES2}, Generate: []uint{p11.CKM_DES2_KEY_GEN}}.Open(t)
	hsmtest.TestEngine(t, func(t *testing.T) hsmtest.Token { return open(t, soft) })
}

// TestForeignMasters: what a master key may do, whoever made it, decides its level.
func TestForeignMasters(t *testing.T) {
	tok := open(t, hsmtest.SoftHSM(t))
	for version, c := range map[gp.KeyVersion]struct {
		attribute uint
		value     bool
		want      hsm.Protection
	}{
		1: {p11.CKA_PRIVATE, true, hsm.Protection{Level: hsm.LevelA}},
		2: {p11.CKA_ENCRYPT, true, hsm.Protection{Level: hsm.LevelB, Why: "the master key may do more than derive: CKA_ENCRYPT"}},
		3: {p11.CKA_UNWRAP, true, hsm.Protection{Level: hsm.LevelB, Why: "the master key may do more than derive: CKA_UNWRAP"}},
		4: {p11.CKA_EXTRACTABLE, true, hsm.Protection{Level: hsm.LevelD, Why: "the master key may leave the token: it is extractable, or not sensitive"}},
		5: {p11.CKA_SENSITIVE, false, hsm.Protection{Level: hsm.LevelD, Why: "the master key may leave the token: it is extractable, or not sensitive"}},
	} {
		id := hsm.MasterID{Set: "site", Version: version, KDF: kdf.KDF3}
		if err := tok.Plant(id, hsm.AES128, c.attribute, c.value); err != nil {
			t.Fatal(err)
		}
		all, err := tok.Masters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(m hsm.Master) bool { return m.MasterID == id })
		if i < 0 || all[i].Protection != c.want {
			t.Errorf("attribute %#x=%v: %+v, want %+v", c.attribute, c.value, all, c.want)
		}
	}
}

// TestMissingMechanism: what the token cannot do is named with its number.
func TestMissingMechanism(t *testing.T) {
	tok := open(t, hsmtest.SoftHSM(t, "CKM_AES_CBC", "CKM_AES_ECB_ENCRYPT_DATA"))
	w, err := tok.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	k, err := w.Import(t.Context(), hsm.AES128, secret.Random(16))
	if err != nil {
		t.Fatal(err)
	}
	_, wrap := w.Wrap(t.Context(), k, k)
	_, encrypt := w.Encrypt(t.Context(), k, make([]byte, 16))
	_, generate := tok.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128)
	for want, err := range map[string]error{"CKM_AES_CBC(0x1082)": errors.Join(encrypt, wrap), "CKM_AES_ECB_ENCRYPT_DATA(0x1104)": generate} {
		var missing *hsm.MechanismError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CKR_MECHANISM_INVALID(0x70)") {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err := hsm.SelfTest(t.Context(), tok, kdf.DES); err != nil {
		t.Errorf("3DES still works: %v", err)
	}
}

// TestTokens: what there is to choose from, without a login.
func TestTokens(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	got, err := pkcs11.Tokens(soft.Module, "")
	if err != nil || len(got) != 1 || got[0].Label != soft.Label || got[0].PINState != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	u := got[0].URI(soft.Module)
	if _, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u, PIN: secret.New([]byte("wrong-pin"))}); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if got, err := pkcs11.Tokens(soft.Module, ""); err != nil || !strings.Contains(got[0].PINState, "wrong PIN") {
		t.Errorf("after a wrong PIN: %+v, %v", got, err)
	}
	if _, err := pkcs11.Tokens("/nowhere.so", ""); !errors.Is(err, hsm.ErrModule) {
		t.Errorf("no such module: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	broken := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(broken, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, uri, pin, want string
		is                   error
	}{
		{"no module", "pkcs11:token=x?module-path=/no/such/module.so", "1234", "/no/such/module.so", os.ErrNotExist},
		{"no library", "pkcs11:token=x?module-path=" + broken, "1234", "no PKCS #11 library", nil},
		{"no token", "pkcs11:token=nobody?module-path=" + soft.Module, "1234", "no token matches", hsm.ErrUnavailable},
		{"no serial", "pkcs11:serial=00?module-path=" + soft.Module, "1234", "no token matches", hsm.ErrUnavailable},
		{"wrong PIN", "pkcs11:token=" + soft.Label + "?module-path=" + soft.Module, "0000", "CKR_PIN_INCORRECT(0xA0)", hsm.ErrPIN},
		{"no PIN", "pkcs11:token=" + soft.Label + "?module-path=" + soft.Module, "", "pin-source", nil},
		{"no PIN file", "pkcs11:token=x?module-path=" + soft.Module + "&pin-source=/no/such/pin", "", "/no/such/pin", os.ErrNotExist},
	} {
		tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, c.uri), PIN: secret.New([]byte(c.pin))})
		if err == nil {
			tok.Close()
			t.Errorf("%s: opened", c.name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.pin != "" && strings.Contains(err.Error(), soft.PIN) {
			t.Errorf("%s: the PIN is in the error", c.name)
		}
	}
}

// TestSharedModule: two tokens of one process share the library; closing one does
// not end the other.
func TestSharedModule(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	a, b := open(t, soft), open(t, soft)
	m, err := a.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES256)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Masters(t.Context()); err != nil || len(got) != 1 || got[0] != m {
		t.Errorf("%+v, want %+v, %v", got, m, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Masters(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("after the other was closed: %+v, %v", got, err)
	}
	if i := b.Info(); i.Token != soft.Label || !strings.Contains(i.Library, "SoftHSM") && !strings.Contains(i.Model, "SoftHSM") {
		t.Errorf("%+v", i)
	}
}

// use derives a key under the only master of the token.
func use(ctx context.Context, tok *pkcs11.Token) error {
	ms, err := tok.Masters(ctx)
	if err != nil {
		return err
	}
	if len(ms) != 1 {
		return hsm.ErrNotFound
	}
	w, err := tok.Work(ctx)
	if err != nil {
		return err
	}
	defer w.Close()
	d, err := kdf.Card(ms[0].KDF, kdf.ENC, kdf.Identity{}, kdf.Master{Cipher: kdf.AES, Size: 16})
	if err != nil {
		return err
	}
	k, err := w.Derive(ctx, ms[0], d)
	if err != nil {
		return err
	}
	_, err = hsm.CheckValue(ctx, w, k)
	return err
}

// eventually waits for f to succeed; until then only ErrUnavailable is right.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if !errors.Is(err, hsm.ErrUnavailable) || time.Now().After(end) {
			t.Fatalf("meanwhile: %v", err)
		}
	}
}

// TestTokenPulled: while the token is away everything is unavailable, nothing is
// "not found"; when it is back, everything works again, signers too.
func TestTokenPulled(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	tok := open(t, soft)
	if _, err := tok.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	g, err := tok.GenerateSigner(t.Context(), hsm.CALabel("inkan", 1), hsm.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := use(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := os.Rename(soft.Tokens, soft.Tokens+".away"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(soft.Tokens, 0o700); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if err := use(t.Context(), tok); !errors.Is(err, hsm.ErrUnavailable) {
				t.Fatalf("without the token: %v, want ErrUnavailable", err)
			}
		}
		if err := os.Remove(soft.Tokens); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(soft.Tokens+".away", soft.Tokens); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { return use(t.Context(), tok) })
		digest := make([]byte, 32)
		if _, err := g.Sign(nil, digest, crypto.SHA256); err != nil {
			t.Errorf("signer after the token came back: %v", err)
		}
	}
}

// TestHangingCall: a call that does not come back costs its session and its request;
// the library is not restarted under it.
func TestHangingCall(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	defer close(end)
	called, restarted := pkcs11.Hang(end)
	if !errors.Is(called, hsm.ErrUnavailable) || !errors.Is(restarted, hsm.ErrUnavailable) {
		t.Errorf("%v; %v", called, restarted)
	}
}

// TestHangingTogether: so does one among several; the work is left to it, and the
// goroutine in it makes no further call.
func TestHangingTogether(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	later, called := pkcs11.HangTogether(end)
	if !errors.Is(called, hsm.ErrUnavailable) {
		t.Error(called)
	}
	close(end)
	for range 2 {
		if err := <-later; !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("the goroutine was told %v", err)
		}
	}
}

// TestSessionsBounded: with one session, a second work waits for the first, and
// gives up with its context.
func TestSessionsBounded(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, soft.URI), Sessions: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	w, err := tok.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tok.Work(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := tok.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestRecycle: the module is restarted under load, and no request gets a wrong
// answer or an error other than ErrUnavailable.
func TestRecycle(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	var log logBuffer
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, soft.URI), RecycleAfter: 20, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	if _, err := tok.GenerateMaster(t.Context(), hsm.MasterID{Set: "site", Version: 2, KDF: kdf.KDF3}, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if err := use(t.Context(), tok); err != nil && !errors.Is(err, hsm.ErrUnavailable) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, func() error { return use(t.Context(), tok) })
	if n := strings.Count(log.String(), "restarting the PKCS #11 module"); n < 2 {
		t.Errorf("restarted %d times", n)
	}
	if strings.Contains(log.String(), soft.PIN) {
		t.Error("the PIN is in the log")
	}
}

// logBuffer is a bytes.Buffer for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
