package coolkey

import (
	"encoding/binary"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/securechannel/primitive"
)

// importCommand is the parsed data of IMPORT KEY ENCRYPTED.
type importCommand struct {
	object    ck.ObjectID
	algorithm ck.ImportAlgorithm
	wrapped   []byte // transport key under the data encryption key
	check     []byte
	iv        []byte
}

func (a *Applet) importCommandOf(c call) (importCommand, apdu.StatusWord) {
	if len(c.data) < 5 {
		return importCommand{}, apdu.SWWrongLength
	}
	i := importCommand{object: ck.ObjectID(c.data[:4]), algorithm: ck.ImportAlgorithm(c.data[4])}
	var ok1, ok2, ok3 bool
	rest := c.data[5:]
	i.wrapped, rest, ok1 = short(rest)
	if ok1 && len(i.wrapped) != 16 && !(len(i.wrapped) == 32 && a.isAES(i)) {
		return i, ck.SWKeySize
	}
	i.check, rest, ok2 = short(rest)
	i.iv, rest, ok3 = short(rest)
	if !ok1 || !ok2 || !ok3 || len(rest) != 0 {
		return i, apdu.SWWrongLength
	}
	if len(i.iv) != 8 && !(len(i.iv) == 16 && a.traits.has(aesImport)) {
		return i, apdu.SWWrongLength
	}
	return i, done
}

func (a *Applet) isAES(i importCommand) bool {
	return a.traits.has(aesImport) && (i.algorithm == ck.ImportAESKWP || i.algorithm == ck.ImportAESCBC)
}

// importEncrypted brings in a key pair from an object that holds it encrypted
// under a transport key (coolkey-applet.md §8.2). The object is zeroed once the
// command is understood, whatever happens then.
func (a *Applet) importEncrypted(c call) ([]byte, apdu.StatusWord) {
	p, sw := a.pairOf(c)
	if sw != done {
		return nil, sw
	}
	if sw := a.writable(c, p.private, p.public); sw != done {
		return nil, sw
	}
	i, sw := a.importCommandOf(c)
	if sw != done {
		return nil, sw
	}
	o := a.p.Heap.find(i.object)
	allowed := o != nil && c.allowed(o.ACL.Read) && c.allowed(o.ACL.Write)
	if allowed {
		defer func() { clear(o.Data); c.env.Touch() }()
	}
	transport, ok := c.env.Unwrap(i.wrapped)
	if !ok || len(transport) != len(i.wrapped) {
		return nil, ck.SWBadWrappedKey
	}
	defer clear(transport)
	if sw := a.checkTransport(i, transport); sw != done {
		return nil, sw
	}
	if o == nil {
		return nil, ck.SWObjectNotFound
	}
	if !allowed {
		return nil, ck.SWUnauthorized
	}
	return nil, a.importBlob(c, p, i, transport, o.Data)
}

// checkTransport verifies the key check value, where the variant does.
func (a *Applet) checkTransport(i importCommand, transport []byte) apdu.StatusWord {
	if !a.traits.has(checksKey) || len(i.check) == 0 {
		return done
	}
	if len(i.check) != 3 {
		return ck.SWUnsupported
	}
	kcv := primitive.KCVDES
	if a.isAES(i) {
		kcv = primitive.KCVAES
	}
	want, err := kcv(transport)
	if err != nil {
		return ck.SWInternal
	}
	if !equal(want[:], i.check) {
		return ck.SWBadWrappedKey
	}
	return done
}

func (a *Applet) importBlob(c call, p pair, i importCommand, transport, blob []byte) apdu.StatusWord {
	if len(blob) < 5 {
		return ck.SWInvalidParameter
	}
	if blob[0] > 1 {
		return ck.SWUnsupported
	}
	p.bits = int(binary.BigEndian.Uint16(blob[2:]))
	content := blob[4:]
	if blob[0] == 1 {
		plain, sw := a.decrypt(i, transport, content)
		if sw != done {
			return sw
		}
		defer clear(plain)
		content = plain
	}
	return a.importPKCS8(c, p, ck.KeyType(blob[1]), content)
}

// importPKCS8 stores a PKCS #8 pair; bytes behind it are padding.
func (a *Applet) importPKCS8(c call, p pair, t ck.KeyType, der []byte) apdu.StatusWord {
	var private, public *key
	var sw apdu.StatusWord
	switch {
	case t == ck.KeyRSAPair:
		p.privateType, p.publicType = ck.KeyRSAPrivate, ck.KeyRSAPublic
		private, public, sw = rsaOfPKCS8(der)
	case t == ck.KeyECPair && a.traits.has(ellipticCurves):
		p.privateType, p.publicType = ck.KeyECPrivate, ck.KeyECPublic
		private, public, sw = ecOfPKCS8(der)
	default:
		return ck.SWKeyTypeUnsupported
	}
	if sw != done {
		return sw
	}
	if private.Bits != p.bits || private.RSA != nil && !a.rsaSize(p.bits) {
		return ck.SWKeySize
	}
	if sw := a.fits(p); sw != done {
		return sw
	}
	a.store(c, p, private, public)
	return done
}
