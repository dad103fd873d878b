package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"inkan/apdu"
	"inkan/sim/gp"
	"inkan/sim/piv"
)

// Config describes a software card. The zero value is a card of the default
// model, in memory, with a serial number drawn at random.
type Config struct {
	Model  string      // name of a built-in model or a TOML file; see [LoadModel]
	Serial uint64      // at most [MaxSerial]; 0 = drawn at random
	Rand   io.Reader   // nil = crypto/rand
	Keys   gp.KeyMaker // nil = fresh key pairs; tests use a [KeyPool]
	Path   string      // image file; empty = memory only
	Chaos  *Chaos      // nil = a well-behaved card
}

// When tells on which side of an exchange the power fails.
type When uint8

// Sides of an exchange.
const (
	Before When = iota // the card never saw the command
	After              // the card acted and saved, the answer is lost
)

// String is before or after.
func (w When) String() string {
	if w == Before {
		return "before"
	}
	return "after"
}

// Card is a software card in a reader. What a command changed is on disk before
// its answer leaves the card.
//
// One goroutine at a time transmits; [Card.Cut], [Card.Remove] and [Card.Insert]
// may come from others.
type Card struct {
	mu        sync.Mutex
	cfg       Config
	model     string
	coolkey   string
	piv       piv.Config
	atr       apdu.ATR
	m         *gp.Manager
	t         transport
	img       *image
	mischief  *mischief
	exchanges int
	cutAt     int // exchange at which the power fails, 0 = never
	cutWhen   When
	out       bool // pulled
	closed    bool
	err       error // see Err
	broken    error // why the image could not be read again
}

var _ apdu.Card = (*Card)(nil)

var errClosed = errors.New("card is closed")

// New makes a card. With a Path it opens that image, and creates it from Model
// and Serial where there is none; in an image that exists these two are not
// looked at.
func New(cfg Config) (*Card, error) {
	if cfg.Path == "" {
		return create(cfg, nil)
	}
	img, err := openImage(cfg.Path)
	if err != nil {
		return nil, err
	}
	if !img.exists() {
		return settle(img)(create(cfg, img))
	}
	return settle(img)(open(cfg, img))
}

// Create makes a new image file, mode 0600. It fails where there is a file.
func Create(path, model string, serial uint64) (*Card, error) {
	img, err := openImage(path)
	if err != nil {
		return nil, err
	}
	if img.exists() {
		return settle(img)(nil, fmt.Errorf("creating card image %s: there is a file already", path))
	}
	return settle(img)(create(Config{Model: model, Serial: serial, Path: path}, img))
}

// Open opens an image file. A damaged one gives [ErrImage], one that is open
// elsewhere [ErrInUse].
func Open(path string) (*Card, error) {
	img, err := openImage(path)
	if err != nil {
		return nil, err
	}
	return settle(img)(open(Config{Path: path}, img))
}

// settle gives the image's lock back where no card came of it.
func settle(img *image) func(*Card, error) (*Card, error) {
	return func(c *Card, err error) (*Card, error) {
		if err != nil {
			return nil, errors.Join(err, img.close())
		}
		return c, nil
	}
}

func create(cfg Config, img *image) (*Card, error) {
	model, err := LoadModel(cfg.Model)
	if err != nil {
		return nil, err
	}
	if cfg.Serial == 0 {
		if cfg.Serial, err = model.drawSerial(cfg.Rand); err != nil {
			return nil, err
		}
	}
	if err := model.checkSerial(cfg.Serial); err != nil {
		return nil, err
	}
	p, applet := model.born(cfg.Serial)
	c := &Card{cfg: cfg, model: model.Name, coolkey: model.Coolkey, piv: applet, atr: model.ATR, img: img, mischief: newMischief(cfg.Chaos)}
	m, err := gp.New(p, c.manager(model.Coolkey, applet))
	if err != nil {
		return nil, err
	}
	c.plug(m)
	if err := c.save(); err != nil {
		return nil, err
	}
	return c, nil
}

func open(cfg Config, img *image) (*Card, error) {
	c := &Card{cfg: cfg, img: img, mischief: newMischief(cfg.Chaos)}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// manager is what the card manager needs to know of this configuration.
func (c *Card) manager(coolkey string, applet piv.Config) gp.Config {
	return gp.Config{Applets: applets(coolkey, applet, c.cfg.Rand), Rand: c.cfg.Rand, Keys: c.cfg.Keys, Commit: c.save, UnknownTags: c.cfg.Chaos != nil}
}

// plug puts a card manager into the card, freshly powered.
func (c *Card) plug(m *gp.Manager) {
	q := m.Profile().Quirks
	c.m, c.t = m, transport{t0: q.T0, steps: q.Response61}
}

// load reads the card from its image.
func (c *Card) load() error {
	p, err := c.img.read()
	if err != nil {
		return err
	}
	m, err := gp.Restore(p.Card, c.manager(p.Coolkey, p.PIV))
	if err != nil {
		return fmt.Errorf("reading card image %s: %w: %v", c.img.path, ErrImage, err)
	}
	c.model, c.coolkey, c.piv, c.atr = p.Model, p.Coolkey, p.PIV, p.ATR
	c.plug(m)
	return nil
}

// save writes the card to its image, where it has one.
func (c *Card) save() error {
	if c.img == nil {
		return nil
	}
	state, err := c.m.Save()
	if err != nil {
		return err
	}
	return c.img.write(payload{Model: c.model, ATR: c.atr, Coolkey: c.coolkey, PIV: c.piv, Card: state})
}

// Close ends the card. What it answered so far is on disk already.
func (c *Card) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.img == nil {
		return nil
	}
	return c.img.close()
}

// ATR is the answer to reset. It is the same in every state.
func (c *Card) ATR() apdu.ATR {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.atr)
}

// Reset takes the power away and gives it back: selection, channels and logins
// are gone. It fails with apdu.ErrCardRemoved where there is no card.
func (c *Card) Reset(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errClosed
	case c.out:
		return apdu.ErrCardRemoved
	}
	c.reset()
	return nil
}

func (c *Card) reset() {
	c.m.Reset()
	c.plug(c.m)
}

// Transmit implements [apdu.Card]. Bytes that are no command are answered 6700.
// A context that is done is honoured before the card acts, never after.
func (c *Card) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	c.exchanges++
	when, cut := c.cut()
	if cut && when == Before {
		c.pull()
		return nil, apdu.ErrCardRemoved
	}
	resp := c.exchange(bytes.Clone(cmd))
	if cut {
		c.pull()
		return nil, apdu.ErrCardRemoved
	}
	return resp.Encode(), nil
}

func (c *Card) ready(ctx context.Context) error {
	switch {
	case c.closed:
		return errClosed
	case c.broken != nil:
		return c.broken
	case ctx.Err() != nil:
		return ctx.Err()
	case c.out:
		return apdu.ErrCardRemoved
	}
	return c.mischief.delay(ctx)
}

// cut says whether the power fails in this exchange.
func (c *Card) cut() (When, bool) {
	if c.cutAt != 0 && c.exchanges == c.cutAt {
		c.cutAt = 0
		return c.cutWhen, true
	}
	return c.mischief.pull()
}

func (c *Card) exchange(raw []byte) apdu.Response {
	cmd, err := apdu.ParseCommand(raw)
	if err != nil {
		return apdu.Response{SW: apdu.SWWrongLength}
	}
	cmd = c.mischief.round(cmd)
	whole, early := c.t.begin(cmd)
	if early != nil {
		return *early
	}
	resp := c.m.Do(whole)
	if !c.keep() {
		return apdu.Response{SW: apdu.SWMemoryFailure}
	}
	c.t.exact = c.m.ExactLe()
	return c.mischief.finish(&c.t, cmd, resp)
}

// keep makes the state durable before the answer leaves. Where that fails, or an
// applet failed in the middle of something, the card goes back to what its image
// holds. false: the change is lost.
func (c *Card) keep() bool {
	changed := c.m.Changed()
	if err := c.m.Fault(); err != nil {
		c.restore(err)
		return true
	}
	if !changed {
		return true
	}
	if err := c.save(); err != nil {
		c.restore(err)
		return false
	}
	return true
}

// restore goes back to the image after err. A card without one keeps its state
// and loses power only.
func (c *Card) restore(err error) {
	c.err = err
	if c.img == nil {
		c.reset()
		return
	}
	if err := c.load(); err != nil {
		c.broken = err
	}
}

// Err is the last error inside the card: why a change did not reach the disk
// (answered 6581), or a programming error (answered 6F00). nil if there was none.
func (c *Card) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
