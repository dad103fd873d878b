//go:build cgo && linux

package bench_test

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/local"
	"inkan/tks/tkstest"
)

// protocols are the two kinds of cards, and the raw calls that an opening of a
// channel with one takes at the least: derive the two static keys inside the token,
// have them make the session keys, destroy them.
var protocols = []struct {
	key      string
	protocol securechannel.Protocol
	option   securechannel.Option
	version  gp.KeyVersion
	kind     hsm.KeyType
	raw      rawCalls
}{
	{"scp02", securechannel.SCP02, 0x15, 5, hsm.DES3, rawCalls{
		master: p11.CKK_DES3, derive: p11.CKM_DES3_ECB_ENCRYPT_DATA, template: cardKey(p11.CKK_DES2, false), use: useEncrypt, uses: []int{1, 1}}},
	{"scp03", securechannel.SCP03, 0x70, 2, hsm.AES128, rawCalls{
		master: p11.CKK_AES, derive: p11.CKM_AES_ECB_ENCRYPT_DATA, template: append(cardKey(p11.CKK_AES, true), p11.NewAttribute(p11.CKA_VALUE_LEN, 16)), use: useCMAC, uses: []int{2, 1}}},
}

// measureKeyService opens sessions through tks/local and by the same calls into the
// same module, in turns. A set's protection level is printed beside: at B the keys
// of cards stay objects of the token.
func measureKeyService(t *testing.T, s size, r results) {
	soft := hsmtest.SoftHSM(t)
	u, err := pkcs11.ParseURI(soft.URI)
	must(t, err)
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	must(t, err)
	defer tok.Close()
	ledger, err := local.OpenLedger(t.TempDir() + "/ledger")
	must(t, err)
	defer ledger.Close()
	svc, err := local.New(local.Config{Vault: tok, Ledger: ledger})
	must(t, err)
	mod := p11.New(soft.Module) // loaded and logged in already, by tok
	for _, p := range protocols {
		_, err := svc.CreateKeySet(t.Context(), "site", p.version, p.kind)
		must(t, err)
		card := tkstest.NewCard(p.protocol, p.option)
		card.Changeover(t, svc, "site", p.version)
		card.Check(t, svc)
		req := tks.SessionRequest{CardProof: card.Proof(t)}
		ours := func(int) {
			if _, err := svc.DeriveSession(t.Context(), req); err != nil {
				t.Error(err)
			}
		}
		raw := make([]*rawCalls, callers)
		for i := range raw {
			raw[i] = p.raw.open(t, mod, soft.Label)
		}
		bare := func(i int) {
			if err := raw[i].session(); err != nil {
				t.Error(err)
			}
		}
		r.put("tks_ratio_"+p.key, "%.2f", 1/ratio(s.turns, 10, together(callers, ours), together(callers, bare)))
		r.put("tks_ratio_"+p.key+"_alone", "%.2f", 1/ratio(s.turns, 20, together(1, ours), together(1, bare)))
		for _, c := range raw {
			must(t, mod.CloseSession(c.h))
		}
	}
}

// callers is how many open sessions at once, as on a server that is busy.
const callers = 4

// together does f so many times by each caller.
func together(callers int, f func(caller int)) func(n int) {
	return func(n int) {
		var wg sync.WaitGroup
		for i := 1; i < callers; i++ {
			wg.Go(func() {
				for range n {
					f(i)
				}
			})
		}
		for range n {
			f(0)
		}
		wg.Wait()
	}
}

// rawCalls are the calls of one opening.
type rawCalls struct {
	master   uint // type of the master key
	derive   uint // mechanism
	template []*p11.Attribute
	use      func(*p11.Ctx, p11.SessionHandle, p11.ObjectHandle) error
	uses     []int // of each derived key

	mod   *p11.Ctx
	h     p11.SessionHandle
	base  p11.ObjectHandle
	param []byte
}

// open opens a session with the token and finds the master key.
func (c rawCalls) open(t *testing.T, mod *p11.Ctx, label string) *rawCalls {
	t.Helper()
	c.mod = mod
	slots, err := mod.GetSlotList(true)
	must(t, err)
	for _, slot := range slots {
		if info, err := mod.GetTokenInfo(slot); err == nil && info.Label == label {
			c.h, err = mod.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
			must(t, err)
		}
	}
	must(t, mod.FindObjectsInit(c.h, []*p11.Attribute{p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_TOKEN, true), p11.NewAttribute(p11.CKA_KEY_TYPE, c.master)}))
	all, _, err := mod.FindObjects(c.h, 2)
	must(t, err)
	must(t, mod.FindObjectsFinal(c.h))
	if len(all) != 1 {
		t.Fatalf("%d master keys", len(all))
	}
	c.base = all[0]
	data := make([]byte, 16)
	pin := new(runtime.Pinner)
	pin.Pin(&data[0])
	t.Cleanup(pin.Unpin)
	// CK_KEY_DERIVATION_STRING_DATA: pointer and length
	c.param = binary.NativeEndian.AppendUint64(nil, uint64(uintptr(unsafe.Pointer(&data[0]))))
	c.param = binary.NativeEndian.AppendUint64(c.param, uint64(len(data)))
	return &c
}

// session is one opening.
func (c *rawCalls) session() error {
	var keys []p11.ObjectHandle
	for _, uses := range c.uses {
		k, err := c.mod.DeriveKey(c.h, []*p11.Mechanism{p11.NewMechanism(c.derive, c.param)}, c.base, c.template)
		if err != nil {
			return err
		}
		keys = append(keys, k)
		for range uses {
			if err := c.use(c.mod, c.h, k); err != nil {
				return err
			}
		}
	}
	for _, k := range keys {
		if err := c.mod.DestroyObject(c.h, k); err != nil {
			return err
		}
	}
	return nil
}

func useEncrypt(m *p11.Ctx, h p11.SessionHandle, k p11.ObjectHandle) error {
	if err := m.EncryptInit(h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_DES3_CBC, make([]byte, 8))}, k); err != nil {
		return err
	}
	_, err := m.Encrypt(h, make([]byte, 16))
	return err
}

func useCMAC(m *p11.Ctx, h p11.SessionHandle, k p11.ObjectHandle) error {
	if err := m.SignInit(h, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_CMAC, nil)}, k); err != nil {
		return err
	}
	_, err := m.Sign(h, make([]byte, 32))
	return err
}

// cardKey is the template of a card key that does not leave the token.
func cardKey(kind uint, sign bool) []*p11.Attribute {
	return []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, kind),
		p11.NewAttribute(p11.CKA_TOKEN, false), p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true), p11.NewAttribute(p11.CKA_EXTRACTABLE, false),
		p11.NewAttribute(p11.CKA_ENCRYPT, true), p11.NewAttribute(p11.CKA_DECRYPT, false),
		p11.NewAttribute(p11.CKA_SIGN, sign), p11.NewAttribute(p11.CKA_VERIFY, false),
		p11.NewAttribute(p11.CKA_WRAP, true), p11.NewAttribute(p11.CKA_UNWRAP, false), p11.NewAttribute(p11.CKA_DERIVE, true),
	}
}
