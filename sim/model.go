package sim

import (
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/sim/gp"
	"inkan/sim/piv"
)

// DefaultModel is the model of a card whose model nobody named.
const DefaultModel = "gp-scp03"

//go:embed models/*.toml
var shipped embed.FS

// maxModel is the size of the largest model document, in bytes.
const maxModel = 64 << 10

// Model is a kind of card: everything but its serial number. It is the decoded
// form of a TOML document (see the folder models).
type Model struct {
	Name    string
	Title   string // what it is, in a few words
	ATR     apdu.ATR
	Coolkey string     // behaviour a loaded CoolKey gets: 1.3, 1.4, 1.5 or extended
	PIV     piv.Config // behaviour a PIV applet gets
	profile gp.Profile
}

// Models names the models that are built in, sorted.
func Models() []string {
	files, err := fs.Glob(shipped, "models/*.toml")
	if err != nil {
		return nil
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".toml")
	}
	slices.Sort(files)
	return files
}

// Oddities lists how cards of the model deviate from the norm.
func (m Model) Oddities() []Oddity { return m.profile.Quirks.Oddities() }

// LoadModel finds a model by name, or reads a TOML file: a name that ends in
// ".toml" or has a path separator is a file. The empty name is [DefaultModel].
func LoadModel(name string) (Model, error) {
	if name == "" {
		name = DefaultModel
	}
	if strings.HasSuffix(name, ".toml") || strings.ContainsAny(name, `/\`) {
		return readModel(name)
	}
	doc, err := shipped.ReadFile("models/" + name + ".toml")
	if err != nil {
		return Model{}, fmt.Errorf("no card model %q; there are %s", name, strings.Join(Models(), ", "))
	}
	return ParseModel(name, doc)
}

func readModel(file string) (Model, error) {
	info, err := os.Stat(file)
	if err != nil {
		return Model{}, fmt.Errorf("reading card model: %w", err)
	}
	if info.Size() > maxModel {
		return Model{}, fmt.Errorf("reading card model: %s has %d bytes, at most %d", file, info.Size(), maxModel)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		return Model{}, fmt.Errorf("reading card model: %w", err)
	}
	return ParseModel(strings.TrimSuffix(path.Base(file), ".toml"), doc)
}

// hexBytes is a TOML string of hexadecimal digits.
type hexBytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	*h = b
	return err
}

// document is a model as it is written.
type document struct {
	Title     string       `toml:"title"`
	ATR       apdu.ATR     `toml:"atr"`
	ISD       apdu.AID     `toml:"isd_aid"`
	SCP       []scpEntry   `toml:"scp"`
	KeySets   []keyEntry   `toml:"key_set"`
	CPLC      hexBytes     `toml:"cplc"`
	LifeCycle hexBytes     `toml:"life_cycle"`
	Coolkey   string       `toml:"coolkey"`
	PIV       *pivEntry    `toml:"piv"`
	Memory    int          `toml:"memory"`
	Applets   []applyEntry `toml:"applet"`
	Quirk     quirkEntry   `toml:"quirk"`
}

type scpEntry struct {
	Protocol string `toml:"protocol"`
	Option   string `toml:"option"`
}

type keyEntry struct {
	Version agp.KeyVersion `toml:"version"`
	Type    string         `toml:"type"`
	ENC     hexBytes       `toml:"enc"`
	MAC     hexBytes       `toml:"mac"`
	DEK     hexBytes       `toml:"dek"`
}

type applyEntry struct {
	LoadFile apdu.AID `toml:"load_file"`
	Module   apdu.AID `toml:"module"`
	Instance apdu.AID `toml:"instance"`
	Params   hexBytes `toml:"params"`
}

// ParseModel decodes a model document strictly: an unknown key is an error, and
// everything but title, coolkey, piv, applet and quirk is required. Without isd_aid
// the card has no card manager: then scp, key_set, cplc, life_cycle, coolkey and
// memory are not possible, and applets are required.
func ParseModel(name string, doc []byte) (Model, error) {
	m, err := parseModel(doc)
	if err != nil {
		return Model{}, fmt.Errorf("card model %q: %w", name, err)
	}
	m.Name = name
	return m, nil
}

func parseModel(doc []byte) (Model, error) {
	if len(doc) > maxModel {
		return Model{}, fmt.Errorf("%d bytes, at most %d", len(doc), maxModel)
	}
	var d document
	meta, err := toml.Decode(string(doc), &d)
	if err != nil {
		return Model{}, err
	}
	if keys := meta.Undecoded(); len(keys) > 0 {
		return Model{}, fmt.Errorf("unknown key %q", keys[0].String())
	}
	if len(d.ATR) == 0 {
		return Model{}, errors.New("no atr")
	}
	if !meta.IsDefined("isd_aid") {
		return d.fixed(meta)
	}
	p := gp.Profile{ISD: d.ISD, Version: []byte{0x02, 0x01, 0x01}, Memory: d.Memory}
	switch {
	case len(d.CPLC) != len(p.CPLC):
		return Model{}, fmt.Errorf("cplc of %d bytes, want %d", len(d.CPLC), len(p.CPLC))
	case len(d.LifeCycle) != 1:
		return Model{}, errors.New("life_cycle is not one byte")
	case !softwareCPLC(d.CPLC):
		return Model{}, errors.New("cplc of a software card begins with 494E4B41")
	}
	p.State = d.LifeCycle[0]
	copy(p.CPLC[:], d.CPLC)
	for _, fill := range []func(*gp.Profile) error{d.channels, d.keys, d.applets, d.quirks} {
		if err := fill(&p); err != nil {
			return Model{}, err
		}
	}
	if err := p.Check(); err != nil {
		return Model{}, err
	}
	coolkey, err := d.coolkey()
	if err != nil {
		return Model{}, err
	}
	applet, err := d.PIV.config()
	if err != nil {
		return Model{}, err
	}
	return Model{Title: d.Title, ATR: d.ATR, Coolkey: coolkey, PIV: applet, profile: p}, nil
}

// softwareCPLC reports fabricator and type of a software card, "INKA".
func softwareCPLC(b []byte) bool { return string(b[:4]) == "INKA" }

func (d *document) channels(p *gp.Profile) error {
	for _, e := range d.SCP {
		n, err1 := strconv.ParseUint(e.Protocol, 16, 8)
		i, err2 := strconv.ParseUint(e.Option, 16, 8)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("scp: %w", err)
		}
		p.Channels = append(p.Channels, gp.ChannelOption{Protocol: securechannel.Protocol(n), Option: securechannel.Option(i)})
	}
	return nil
}

// keyTypes are the types of key_set and the length of each key in bytes.
var keyTypes = map[string]struct {
	code gp.KeyType
	n    int
}{
	"des3": {gp.DES3, 16}, "aes-128": {gp.AES, 16}, "aes-192": {gp.AES, 24}, "aes-256": {gp.AES, 32},
}

func (d *document) keys(p *gp.Profile) error {
	for _, e := range d.KeySets {
		t, known := keyTypes[e.Type]
		if !known {
			return fmt.Errorf("key_set %v: type %q is none of des3, aes-128, aes-192, aes-256", e.Version, e.Type)
		}
		if len(e.ENC) != t.n || len(e.MAC) != t.n || len(e.DEK) != t.n {
			return fmt.Errorf("key_set %v: %s keys have %d bytes", e.Version, e.Type, t.n)
		}
		p.Keys = append(p.Keys, gp.KeySet{Version: e.Version, Type: t.code, ENC: e.ENC, MAC: e.MAC, DEK: e.DEK})
	}
	return nil
}

func (d *document) applets(p *gp.Profile) error {
	for i, e := range d.Applets {
		if e.LoadFile.Len() == 0 || e.Instance.Len() == 0 {
			return fmt.Errorf("applet %d: load_file and instance are needed", i+1)
		}
		if e.Module.Len() == 0 {
			e.Module = e.Instance
		}
		p.Applets = append(p.Applets, gp.PresetApplet{LoadFile: e.LoadFile, Module: e.Module, Instance: e.Instance, Params: e.Params})
	}
	return nil
}

func (d *document) coolkey() (string, error) {
	switch d.Coolkey {
	case "":
		return "extended", nil
	case "1.3", "1.4", "1.5", "extended":
		return d.Coolkey, nil
	}
	return "", fmt.Errorf("coolkey %q is none of 1.3, 1.4, 1.5, extended", d.Coolkey)
}
