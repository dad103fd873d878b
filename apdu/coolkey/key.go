package coolkey

import (
	"context"
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// KeyNumber is the number of a key slot, 0 to 23; 0 to 15 for generated and
// imported pairs.
type KeyNumber byte

// NoKey stands in a list for "no mate".
const NoKey KeyNumber = 0xFF

// KeyType is the type of a key in a slot and of a key blob.
type KeyType byte

// Key types. The elliptic curve private key and the PKCS #8 pair of such a key
// are ours: no applet of others knows them.
const (
	KeyRSAPublic  KeyType = 0x01
	KeyRSAPrivate KeyType = 0x03 // with CRT values
	KeyRSAPair    KeyType = 0x09 // PKCS #8, import only
	KeyECPublic   KeyType = 0x0A
	KeyECPrivate  KeyType = 0x0B
	KeyECPair     KeyType = 0x0C // PKCS #8, import only
)

// String names the type.
func (t KeyType) String() string {
	names := map[KeyType]string{
		KeyRSAPublic: "RSA public", KeyRSAPrivate: "RSA private", KeyRSAPair: "RSA pair",
		KeyECPublic: "EC public", KeyECPrivate: "EC private", KeyECPair: "EC pair",
	}
	if s, ok := names[t]; ok {
		return s
	}
	return fmt.Sprintf("%02X", byte(t))
}

// KeyInfo is one record of LIST KEYS.
type KeyInfo struct {
	Number KeyNumber
	Type   KeyType
	Mate   KeyNumber // the other half of the pair, [NoKey] if none
	Bits   int
	ACL    KeyACL
}

// ListKeys lists the key slots in use, in rising order.
func ListKeys(ctx context.Context, d apdu.Doer) ([]KeyInfo, error) {
	var list []KeyInfo
	for len(list) <= 0xFF {
		b, err := call(ctx, d, "listing keys", listKeyCommand(len(list) > 0), 0)
		if err != nil {
			return nil, err
		}
		if len(b) == 0 {
			return list, nil
		}
		if len(b) < 11 {
			return nil, fmt.Errorf("listing keys: answer of %d bytes, want 11", len(b))
		}
		list = append(list, KeyInfo{
			Number: KeyNumber(b[0]), Type: KeyType(b[1]), Mate: KeyNumber(b[2]),
			Bits: int(binary.BigEndian.Uint16(b[3:])),
			ACL:  KeyACL{Read: acl(b[5:]), Write: acl(b[7:]), Use: acl(b[9:])},
		})
	}
	return nil, fmt.Errorf("listing keys: more than %d", 0xFF)
}

// Owner is the PIN number whose login may use a private key, 0 to 7.
type Owner byte

// OwnerAnyone makes a private key usable without a PIN.
const OwnerAnyone Owner = 0x0F

// Slots says where a new key pair goes and who may use it.
type Slots struct {
	Private, Public KeyNumber // 0 to 15
	Owner           Owner
	Usage           byte // 0 default, 1 sign, 2 decrypt, 3 both; the applet ignores it
}

// parameters are P1 and P2 of 0C, 0D and 0A.
func (s Slots) parameters() (p1, p2 byte, err error) {
	if s.Private > 15 || s.Public > 15 || s.Private == s.Public || s.Usage > 15 || s.Owner > 8 && s.Owner != OwnerAnyone {
		return 0, 0, fmt.Errorf("key slots %d and %d with owner %d and usage %d", s.Private, s.Public, s.Owner, s.Usage)
	}
	return byte(s.Owner)<<4 | byte(s.Private), s.Usage<<4 | byte(s.Public), nil
}

// ChallengeLen is the length of the challenge that a new key signs.
const ChallengeLen = 16

// Algorithms of key generation.
const (
	algRSA = 0x80
	algEC  = 0x05 // prime field
)

// GenerateRSA makes an RSA key pair of bits bits on the card. challenge is the
// challenge encrypted under the card's data encryption key, 16 bytes. The key and
// its proof are then in the I/O buffer, whose first size bytes [ReadKeyResult]
// reads. It runs through a channel. Point of no return: the slots' old keys are gone.
func GenerateRSA(ctx context.Context, d apdu.Doer, s Slots, bits int, challenge []byte) (size int, err error) {
	return generate(ctx, d, s, bits, challenge, GenerateRSACommand)
}

// GenerateRSACommand is 84 0C.
func GenerateRSACommand(s Slots, bits int, challenge []byte) (apdu.Command, error) {
	return generateCommand(0x0C, algRSA, s, bits, challenge)
}

// GenerateEC is [GenerateRSA] for the curves P-256, P-384 and P-521, named by
// their bits.
func GenerateEC(ctx context.Context, d apdu.Doer, s Slots, bits int, challenge []byte) (size int, err error) {
	return generate(ctx, d, s, bits, challenge, GenerateECCommand)
}

// GenerateECCommand is 84 0D.
func GenerateECCommand(s Slots, bits int, challenge []byte) (apdu.Command, error) {
	return generateCommand(0x0D, algEC, s, bits, challenge)
}

func generate(ctx context.Context, d apdu.Doer, s Slots, bits int, challenge []byte,
	build func(Slots, int, []byte) (apdu.Command, error)) (int, error) {
	c, err := build(s, bits, challenge)
	if err != nil {
		return 0, err
	}
	b, err := call(ctx, d, fmt.Sprintf("generating key %d", s.Private), c, 2)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint16(b)), nil
}

func generateCommand(ins, alg byte, s Slots, bits int, challenge []byte) (apdu.Command, error) {
	p1, p2, err := s.parameters()
	if err != nil {
		return apdu.Command{}, err
	}
	if bits < 1 || bits > 0xFFFF || len(challenge) != ChallengeLen {
		return apdu.Command{}, fmt.Errorf("generating a key of %d bits with a challenge of %d bytes", bits, len(challenge))
	}
	data := make([]byte, 0, 23)
	data = append(data, alg, byte(bits>>8), byte(bits), 0, 0, ChallengeLen)
	data = append(append(data, challenge...), 0)
	return secure(ins, p1, p2, data, apdu.MaxShortNe), nil
}

// ReadKeyResult reads what [GenerateRSA] or [GenerateEC] left in the I/O buffer,
// size bytes, and parses it. The proof is not verified.
func ReadKeyResult(ctx context.Context, d apdu.Doer, size int) (KeyResult, error) {
	if size > maxKeyResult {
		return KeyResult{}, fmt.Errorf("key result of %d bytes", size)
	}
	b, err := ReadObject(ctx, d, Channel(), IDIOBuffer, 0, size)
	if err != nil {
		return KeyResult{}, err
	}
	return ParseKeyResult(b)
}

// Import is a private key ready for the card: what [WrapPrivateKey] made, and the
// transport key encrypted under the card's data encryption key.
type Import struct {
	WrappedPrivateKey
	TransportKey []byte // encrypted, 16 bytes (AES: 16 or 32)
}

// ImportEncrypted brings a key pair to the card: it writes the wrapped key into
// [IDImport] and has the applet unwrap it into the slots. The object stays behind,
// zeroed. It runs through a channel. Point of no return: the slots' old keys are gone.
func ImportEncrypted(ctx context.Context, d apdu.Doer, s Slots, i Import) error {
	es, err := ImportEntries(s, i)
	if err != nil {
		return err
	}
	_, err = run(ctx, d, fmt.Sprintf("importing key %d", s.Private), es)
	return err
}

// ImportEntries are the commands of [ImportEncrypted]: CREATE OBJECT, WRITE OBJECT,
// 84 0A.
func ImportEntries(s Slots, i Import) ([]apdu.Entry, error) {
	c, err := importCommand(s, i)
	if err != nil {
		return nil, err
	}
	return append(ReplaceObjectEntries(Channel(), IDImport, ImportObjectACL, i.Blob), apdu.Entry{Command: c}), nil
}

func importCommand(s Slots, i Import) (apdu.Command, error) {
	p1, p2, err := s.parameters()
	if err != nil {
		return apdu.Command{}, err
	}
	if n := len(i.TransportKey); n != 16 && n != 32 {
		return apdu.Command{}, fmt.Errorf("encrypted transport key of %d bytes", n)
	}
	if len(i.Blob) > MaxObjectLen || len(i.KeyCheck) > 16 || len(i.IV) > 16 {
		return apdu.Command{}, fmt.Errorf("wrapped key of %d bytes with check of %d and IV of %d", len(i.Blob), len(i.KeyCheck), len(i.IV))
	}
	data := append(make([]byte, 0, 64), IDImport[:]...)
	data = append(data, byte(i.Algorithm))
	for _, field := range [][]byte{i.TransportKey, i.KeyCheck, i.IV} {
		data = append(append(data, byte(len(field))), field...)
	}
	return secure(0x0A, p1, p2, data, 0), nil
}

// ClearKeySlots erases every key that is not in keep. It runs through a channel.
// Point of no return.
func ClearKeySlots(ctx context.Context, d apdu.Doer, keep []Slots) error {
	_, err := call(ctx, d, "clearing key slots", ClearKeySlotsCommand(keep), 0)
	return err
}

// ClearKeySlotsCommand is 84 55. An applet refuses an empty list.
func ClearKeySlotsCommand(keep []Slots) apdu.Command {
	data := make([]byte, 0, 2*len(keep))
	for _, s := range keep {
		data = append(data, byte(s.Private), byte(s.Public))
	}
	return secure(0x55, 0, 0, data, 0)
}
