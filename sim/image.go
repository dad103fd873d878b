package sim

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"inkan/apdu"
	"inkan/apdu/durable"
	"inkan/sim/piv"
)

// An image file is
//
//	magic "INKANSIM" ‖ format(2) ‖ length(4) ‖ SHA-256 of the payload(32) ‖ payload
//
// with a JSON payload. It is only ever replaced as a whole, by a rename.
const (
	imageMagic  = "INKANSIM"
	imageFormat = 1
	imageHeader = len(imageMagic) + 2 + 4 + sha256.Size
	maxImage    = 64 << 20 // bytes
)

// ErrImage means that a file is no image of a software card, or a damaged one.
// The file is left as it is.
var ErrImage = errors.New("not an intact card image")

// ErrInUse means that another process, or another Card of this one, has the
// image open.
var ErrInUse = errors.New("card image is in use")

// payload is what an image holds.
type payload struct {
	Model   string
	ATR     apdu.ATR
	Coolkey string
	PIV     piv.Config      // zero in images from before there was PIV: a PivApplet
	Card    json.RawMessage // state of the card manager
}

func encodeImage(p payload) ([]byte, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encoding card image: %w", err)
	}
	sum := sha256.Sum256(body)
	b := make([]byte, 0, imageHeader+len(body))
	b = append(b, imageMagic...)
	b = binary.BigEndian.AppendUint16(b, imageFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, sum[:]...)
	return append(b, body...), nil
}

func decodeImage(b []byte) (payload, error) {
	var p payload
	if len(b) < imageHeader || string(b[:len(imageMagic)]) != imageMagic {
		return p, fmt.Errorf("%w: no header", ErrImage)
	}
	r := b[len(imageMagic):]
	if v := binary.BigEndian.Uint16(r); v != imageFormat {
		return p, fmt.Errorf("%w: format %d, this program reads %d", ErrImage, v, imageFormat)
	}
	n, sum, body := binary.BigEndian.Uint32(r[2:]), r[6:6+sha256.Size], r[6+sha256.Size:]
	if uint64(n) != uint64(len(body)) {
		return p, fmt.Errorf("%w: %d bytes, want %d", ErrImage, len(body), n)
	}
	if got := sha256.Sum256(body); subtle.ConstantTimeCompare(got[:], sum) != 1 {
		return p, fmt.Errorf("%w: checksum is wrong", ErrImage)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("%w: %v", ErrImage, err)
	}
	return p, nil
}

// image is the file that a card lives in.
type image struct {
	path string
	lock io.Closer
	step func(name string) error // test hook: power fails here
}

// openImage takes the image's lock. The file need not exist.
func openImage(path string) (*image, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening card image: %w", err)
	}
	l, err := lockFile(abs + ".lock")
	if err != nil {
		return nil, fmt.Errorf("opening card image %s: %w", path, err)
	}
	if err := durable.RemoveTemps(abs); err != nil {
		return nil, errors.Join(fmt.Errorf("opening card image %s: %w", path, err), l.Close())
	}
	return &image{path: abs, lock: l}, nil
}

func (f *image) close() error { return f.lock.Close() }

func (f *image) exists() bool {
	_, err := os.Stat(f.path)
	return err == nil
}

func (f *image) read() (payload, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return payload{}, fmt.Errorf("reading card image: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxImage {
		return payload{}, fmt.Errorf("reading card image %s: %w: no file of at most %d bytes", f.path, ErrImage, maxImage)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return payload{}, fmt.Errorf("reading card image: %w", err)
	}
	p, err := decodeImage(b)
	if err != nil {
		return payload{}, fmt.Errorf("reading card image %s: %w", f.path, err)
	}
	return p, nil
}

// write replaces the image. Power lost at any point leaves the old one or the new one.
func (f *image) write(p payload) error {
	b, err := encodeImage(p)
	if err != nil {
		return err
	}
	if err := f.power("write"); err != nil {
		return fmt.Errorf("writing card image: %w", err)
	}
	if err := durable.ReplaceFile(f.path, b, 0o600); err != nil {
		return fmt.Errorf("writing card image: %w", err)
	}
	if err := f.power("written"); err != nil {
		return fmt.Errorf("writing card image: %w", err)
	}
	return nil
}

func (f *image) power(step string) error {
	if f.step == nil {
		return nil
	}
	return f.step(step)
}
