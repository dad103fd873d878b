package softkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

const (
	formatName    = "tms-keystore"
	formatVersion = 1
	maxFile       = 16 << 20
	maxRecords    = 10_000
)

// Usages of records.
const (
	usageMaster  = "master"
	usageSign    = "sign"
	usageWrap    = "wrap"
	usageCounter = "counter" // no key: 8 bytes, and no part of a backup
)

// record is one key. value is the bytes of a symmetric key or a PKCS #8 DER.
type record struct {
	Label   string    `json:"label"`
	ID      []byte    `json:"id"`
	Type    string    `json:"type"`
	Usage   string    `json:"usage"`
	Created time.Time `json:"created"`
	Origin  string    `json:"origin,omitempty"` // empty: generated here
	Nonce   []byte    `json:"nonce"`
	Sealed  []byte    `json:"sealed"`

	value secret.Secret
}

// trailer is the last line of the file.
type trailer struct {
	MAC []byte `json:"mac"`
}

// content is a decoded file.
type content struct {
	header  header
	kek     secret.Secret
	records []record
}

// errDamaged means that the passphrase is right and the file is not.
var errDamaged = errors.New("key file is damaged or was altered; restore it from the backup")

// aad binds a record's ciphertext to its generation and attributes.
func (r record) aad(gen uint64) []byte {
	fields := [][]byte{[]byte(formatName), []byte(r.Label), r.ID, []byte(r.Type), []byte(r.Usage),
		[]byte(r.Created.UTC().Format(time.RFC3339Nano))}
	if r.Origin != "" {
		fields = append(fields, []byte(r.Origin))
	}
	b := binary.BigEndian.AppendUint64(nil, gen)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// master is the public description of a master key record.
func (r record) master() (hsm.Master, error) {
	id, err := hsm.ParseMasterID(r.Label, r.ID)
	if err != nil {
		return hsm.Master{}, err
	}
	t, err := hsm.ParseKeyType(r.Type)
	if err != nil {
		return hsm.Master{}, err
	}
	if r.value.Len() != t.Size() {
		return hsm.Master{}, fmt.Errorf("master key %s: value does not have the length of its type", r.Label)
	}
	kcv, err := kdf.KCV(t.Cipher(), r.value.Bytes())
	if err != nil {
		return hsm.Master{}, err
	}
	origin := hsm.Generated
	if r.Origin != "" {
		origin = hsm.Origin(r.Origin)
	}
	return hsm.Master{MasterID: id, Kind: t, KCV: kcv, Protection: protection, Origin: origin, Created: r.Created}, nil
}

func newGCM(kek secret.Secret) (cipher.AEAD, error) {
	b, err := aes.NewCipher(kek.Bytes())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// indexMAC covers every byte of the file before the trailer.
func indexMAC(kek secret.Secret, body []byte) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, kek.Bytes(), "index", 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return m.Sum(nil), nil
}

// encode seals records under the key-encryption key.
func encode(h header, kek secret.Secret, records []record) ([]byte, error) {
	aead, err := newGCM(kek)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out) // one value per line
	if err := e.Encode(h); err != nil {
		return nil, err
	}
	for _, r := range records {
		r.Nonce = make([]byte, aead.NonceSize())
		rand.Read(r.Nonce)
		r.Sealed = aead.Seal(nil, r.Nonce, r.value.Bytes(), r.aad(h.Gen))
		if err := e.Encode(r); err != nil {
			return nil, err
		}
	}
	mac, err := indexMAC(kek, out.Bytes())
	if err != nil {
		return nil, err
	}
	if err := e.Encode(trailer{MAC: mac}); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// load reads and decodes a file that only its owner can read.
func load(path string, passphrase secret.Secret) (content, error) {
	f, err := os.Open(path)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	if err := durable.CheckPrivate(f); err != nil {
		return content{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return content{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(b) > maxFile {
		return content{}, fmt.Errorf("%s is no key file: more than %d bytes", path, maxFile)
	}
	c, err := decode(b, passphrase)
	if err != nil {
		return content{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// decode opens the bytes of a key file. Nothing is used before the passphrase
// is known to be right and the MAC over the whole file to hold.
func decode(b []byte, passphrase secret.Secret) (content, error) {
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) > 0 && len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	h, err := parseHeader(lines)
	if err != nil {
		return content{}, err
	}
	kek, err := h.unlock(passphrase)
	if err != nil {
		return content{}, err
	}
	records, err := openRecords(b, lines, h, kek)
	if err != nil {
		kek.Wipe()
		return content{}, err
	}
	return content{header: h, kek: kek, records: records}, nil
}

func openRecords(b []byte, lines [][]byte, h header, kek secret.Secret) ([]record, error) {
	last := lines[len(lines)-1]
	var t trailer
	if len(lines) < 2 || len(lines) > maxRecords || strict(last, &t) != nil {
		return nil, errDamaged
	}
	mac, err := indexMAC(kek, b[:len(b)-len(last)])
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, t.MAC) {
		return nil, errDamaged
	}
	aead, err := newGCM(kek)
	if err != nil {
		return nil, err
	}
	var out []record
	for _, line := range lines[1 : len(lines)-1] {
		var r record
		if err := strict(line, &r); err != nil || len(r.Nonce) != aead.NonceSize() {
			return nil, errDamaged
		}
		v, err := aead.Open(nil, r.Nonce, r.Sealed, r.aad(h.Gen))
		if err != nil {
			return nil, errDamaged
		}
		r.value, r.Nonce, r.Sealed = secret.New(v), nil, nil
		out = append(out, r)
	}
	return out, nil
}

// strict decodes one JSON value, refusing unknown fields and trailing data.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}
