//go:build cgo && !windows

package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// GenerateMaster implements hsm.Masters.
func (t *Token) GenerateMaster(ctx context.Context, id hsm.MasterID, kt hsm.KeyType) (hsm.Master, error) {
	if err := id.Check(); err != nil {
		return hsm.Master{}, fmt.Errorf("generating master key: %w", err)
	}
	if !kt.Valid() {
		return hsm.Master{}, fmt.Errorf("generating master key: no such key type: %v", kt)
	}
	s, err := t.borrow(ctx)
	if err != nil {
		return hsm.Master{}, fmt.Errorf("generating master key: %w", err)
	}
	defer s.giveBack()
	m, err := do(ctx, s, "generating master key", func(r raw) (hsm.Master, error) { return s.c.generate(r, id, kt) })
	if err != nil {
		return hsm.Master{}, err
	}
	return m, nil
}

func (c *conn) generate(r raw, id hsm.MasterID, kt hsm.KeyType) (hsm.Master, error) {
	derive, err := c.room(r, id, kt)
	if err != nil {
		return hsm.Master{}, err
	}
	o, err := orWithout(generated(id, kt, derive == inside, time.Now()), func(template []*p11.Attribute) (p11.ObjectHandle, error) {
		return r.c.GenerateKey(r.h, mech(keyGen(kt), nil), template)
	})
	if isRV(err, p11.CKR_MECHANISM_INVALID, p11.CKR_FUNCTION_NOT_SUPPORTED) {
		return hsm.Master{}, &hsm.MechanismError{Token: c.name(), Operation: "generate a master key of type " + kt.String(),
			Candidates: []hsm.Candidate{candidate(keyGen(kt), err)}}
	}
	if err != nil {
		return hsm.Master{}, err
	}
	m, err := c.inspect(r, o)
	if err != nil {
		return hsm.Master{}, errors.Join(err, r.c.DestroyObject(r.h, o))
	}
	return m, nil
}

// orWithout makes a master or wrapping key, if need be without the attributes that some tokens
// refuse to hear of: openCryptoki by name, NSS with a general error. They bar
// detours: a copy of the key, or another derivation from it, is as sensitive as the
// key itself anyway.
func orWithout(template []*p11.Attribute, create func([]*p11.Attribute) (p11.ObjectHandle, error)) (o p11.ObjectHandle, err error) {
	for _, unknown := range [][]uint{nil, {p11.CKA_COPYABLE}, {p11.CKA_ALLOWED_MECHANISMS}, {p11.CKA_COPYABLE, p11.CKA_ALLOWED_MECHANISMS}} {
		var known []*p11.Attribute
		for _, a := range template {
			if !slices.Contains(unknown, a.Type) {
				known = append(known, a)
			}
		}
		if o, err = create(known); !isRV(err, p11.CKR_ATTRIBUTE_TYPE_INVALID, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_GENERAL_ERROR) {
			return o, err
		}
	}
	return o, err
}

// room checks that a master key is not there yet and could be used, and says how.
func (c *conn) room(r raw, id hsm.MasterID, kt hsm.KeyType) (way, error) {
	before, err := r.find(maxObjects, attr(p11.CKA_LABEL, id.Label()))
	if err != nil {
		return 0, err
	}
	if len(before) > 0 {
		return 0, fmt.Errorf("%s: %w", id.Label(), hsm.ErrExists)
	}
	derive := c.ways[opDerive.with(kt.Cipher())]
	if derive == 0 {
		return 0, c.missing(opDerive.with(kt.Cipher()))
	}
	return derive, nil
}

// ImportMasters implements hsm.Masters. Where one cannot be stored, those before
// it are destroyed again.
func (t *Token) ImportMasters(ctx context.Context, keys []hsm.MasterValue) ([]hsm.Master, error) {
	if err := hsm.CheckMasterValues(keys); err != nil {
		return nil, fmt.Errorf("importing master keys: %w", err)
	}
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("importing master keys: %w", err)
	}
	defer s.giveBack()
	return do(ctx, s, "importing master keys", func(r raw) ([]hsm.Master, error) { return s.c.importAll(r, keys) })
}

func (c *conn) importAll(r raw, keys []hsm.MasterValue) ([]hsm.Master, error) {
	var out []hsm.Master
	var made []p11.ObjectHandle
	for _, k := range keys {
		m, o, err := c.importOne(r, k)
		if err != nil {
			for _, o := range made {
				err = errors.Join(err, r.c.DestroyObject(r.h, o))
			}
			return nil, err
		}
		out, made = append(out, m), append(made, o)
	}
	return out, nil
}

func (c *conn) importOne(r raw, k hsm.MasterValue) (hsm.Master, p11.ObjectHandle, error) {
	derive, err := c.room(r, k.ID, k.Type)
	if err != nil {
		return hsm.Master{}, 0, err
	}
	value := k.Value.Clone()
	defer value.Wipe()
	if k.Type.Cipher() == kdf.DES {
		kdf.OddParity(value.Bytes())
	}
	want, err := kdf.KCV(k.Type.Cipher(), value.Bytes())
	if err != nil {
		return hsm.Master{}, 0, err
	}
	template := masterKey(k.ID, r.kept(k.Type), derive == inside, time.Now())
	long := secret.New(bytes.Clone(r.lengthen(k.Type, value.Bytes())))
	defer long.Wipe()
	m, o, err := c.createMaster(r, k.Type.Cipher(), long, template)
	if errors.Is(err, errNoLength) && r.in.by[k.Type.Cipher()] == byCreating { // openCryptoki keeps the length only where it is told, others must not be told
		m, o, err = c.createMaster(r, k.Type.Cipher(), long, append([]*p11.Attribute{attr(p11.CKA_VALUE_LEN, k.Type.Size())}, template...))
	}
	if err != nil {
		return hsm.Master{}, 0, fmt.Errorf("%s: token %s takes no key of type %v from outside: %w", k.ID.Label(), c.name(), k.Type, err)
	}
	if m.KCV != want {
		return hsm.Master{}, 0, errors.Join(fmt.Errorf("%s: the token holds another key than it was given", m.Label()), r.c.DestroyObject(r.h, o))
	}
	return m, o, nil
}

// createMaster creates a master key and reads it back; no object stays with an error.
func (c *conn) createMaster(r raw, cipher kdf.Cipher, value secret.Secret, template []*p11.Attribute) (hsm.Master, p11.ObjectHandle, error) {
	o, err := orWithout(template, func(template []*p11.Attribute) (p11.ObjectHandle, error) {
		return r.put(cipher, value.Bytes(), template)
	})
	if err != nil {
		return hsm.Master{}, 0, err
	}
	m, err := c.inspect(r, o)
	if err != nil {
		return hsm.Master{}, 0, errors.Join(err, r.c.DestroyObject(r.h, o))
	}
	return m, o, nil
}

// inspect reads a new master key back: what the token made of the template counts.
func (c *conn) inspect(r raw, o p11.ObjectHandle) (hsm.Master, error) {
	m, ok, err := c.describe(r, o)
	if err != nil {
		return m, err
	}
	a, err := r.attributes(o, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE)
	if err != nil {
		return m, err
	}
	if !ok || !is(a[p11.CKA_SENSITIVE]) || is(a[p11.CKA_EXTRACTABLE]) {
		return m, fmt.Errorf("token %s ignores the template: the key could leave it", c.name())
	}
	twins, err := r.find(maxObjects, attr(p11.CKA_LABEL, m.Label()))
	if err != nil {
		return m, err
	}
	if len(twins) != 1 { // another node was at it in the same moment
		return m, fmt.Errorf("%s: %w", m.Label(), hsm.ErrExists)
	}
	return m, nil
}
