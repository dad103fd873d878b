package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"inkan/apdu/secret"
	"inkan/tks/ceremony"
	"inkan/tks/hsm"
	"inkan/tps/api"
)

const importText = `Brings in the keys of a card maker, or of another system.

Each of several people holds a component: hexadecimal digits and their check value. They type them one after
the other, nobody sees them; the key is the XOR of all. A component may also come in a file that holds the digits
and behind them the check value (with --separate: three lines). At the end all compare the key's check value.

With --wrapped the components are those of a transport key, and the key itself is in a file: AES key wrap with
padding (RFC 5649) in hexadecimal under an AES transport key, or what Dogtag's tkstool -W wrote under a des2 one.

--kdf none is for keys that all cards of a batch share, as makers deliver them. Such cards can be taken over, but
their keys say nothing about which card it is: each is keyed once, then only after inkan token release.
Under --kdf dogtag-sp800-108 the key is kept as one for HMAC: keyset list then shows another check value.

   inkan keyset import maker --version 01 --type des2 --kdf visa2 --components 3
   inkan keyset import batch --version 20 --type des2 --kdf none --separate
   inkan keyset import dogtag --version 02 --type des2 --kdf visa2 --wrapped key.txt --transport-type des2
   inkan keyset import maker --version 01 --component /media/a/part --component /media/b/part --kcv 8BAF47`

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "bring in a master key from elsewhere", ArgsUsage: "NAME", Description: importText,
		Flags: append(newKeySetFlags(),
			&cli.IntFlag{Name: "components", Usage: "`N` people type a component each", Value: 2},
			&cli.StringSliceFlag{Name: "component", Usage: "`FILE` with one person's component, instead of typing; once for each person"},
			&cli.BoolFlag{Name: "separate", Usage: "three keys, for enc, mac and dek, instead of one for all"},
			&cli.StringSliceFlag{Name: "wrapped", Usage: "`FILE` with the key under a transport key; three of them with --separate"},
			&cli.StringFlag{Name: "transport-type", Usage: "`TYPE` of the transport key", Value: "aes-256"},
			&cli.StringSliceFlag{Name: "kcv", Usage: "check value `HEX` that the key must have, instead of a question; three of them with --separate"},
		),
		Action: p.importKeySet,
	}
}

// ceremonyPlan is what an import asks people for.
type ceremonyPlan struct {
	key       hsm.KeyType
	transport hsm.KeyType // 0: the components are those of the key
	slots     []string    // what each key is called
	people    int         // who type
	files     []string    // components that nobody types
	wrapped   []string
	kcvs      []string
}

func planImport(c *cli.Context, in api.NewKeySet) (ceremonyPlan, error) {
	plan := ceremonyPlan{
		slots: []string{"the key"}, people: c.Int("components"), files: c.StringSlice("component"),
		wrapped: c.StringSlice("wrapped"), kcvs: c.StringSlice("kcv"),
	}
	if c.Bool("separate") {
		plan.slots = []string{"the enc key", "the mac key", "the dek key"}
	}
	if len(plan.files) > 0 {
		if c.IsSet("components") {
			return plan, usagef("components are typed (--components) or come in files (--component), not both")
		}
		plan.people = len(plan.files)
	}
	if plan.people < 2 || plan.people > 16 {
		return plan, usagef("%d components: want 2 to 16, of different people", plan.people)
	}
	var err error
	if plan.key, err = hsm.ParseKeyType(in.Type); err != nil {
		return plan, usageError{err}
	}
	if len(plan.wrapped) > 0 {
		if plan.transport, err = hsm.ParseKeyType(c.String("transport-type")); err != nil {
			return plan, usageError{err}
		}
	}
	for name, n := range map[string]int{"--wrapped": len(plan.wrapped), "--kcv": len(plan.kcvs)} {
		if n != 0 && n != len(plan.slots) {
			return plan, usagef("%d times %s for %d keys", n, name, len(plan.slots))
		}
	}
	return plan, nil
}

func (p *program) importKeySet(c *cli.Context) error {
	in, err := newKeySet(c)
	if err != nil {
		return err
	}
	plan, err := planImport(c, in)
	if err != nil {
		return err
	}
	if _, ok := p.terminal(); !ok && (len(plan.files) == 0 || len(plan.kcvs) == 0) {
		return errors.New("there is no terminal to type components on and to confirm the check value; name files with --component and the check value with --kcv")
	}
	return p.withNode(c, func(r rest) error {
		if err := r.post(c.Context, "/keysets/check", in, nil); err != nil { // before anybody types
			return err
		}
		keys, err := p.collectKeys(c, plan)
		defer wipeAll(keys)
		if err != nil {
			return err
		}
		kcvs, err := p.agree(plan, keys)
		if err != nil {
			return err
		}
		return p.sendKeys(c, r, api.ImportKeySet{NewKeySet: in, KCVs: kcvs}, keys)
	})
}

func wipeAll(keys []secret.Secret) {
	for _, k := range keys {
		k.Wipe()
	}
}

// collectKeys puts the keys together, in the order of the plan's slots.
func (p *program) collectKeys(c *cli.Context, plan ceremonyPlan) ([]secret.Secret, error) {
	if len(plan.wrapped) == 0 {
		return p.combineAll(c, plan, plan.key, plan.slots)
	}
	transport, err := p.combineAll(c, plan, plan.transport, []string{"the transport key"})
	defer wipeAll(transport)
	if err != nil {
		return nil, err
	}
	kcv, err := ceremony.CheckValue(plan.transport, transport[0])
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(p.err, "Check value of the transport key: %s\n", kcv)
	var keys []secret.Secret
	for i, file := range plan.wrapped {
		b, err := readSmall(file)
		if err != nil {
			return keys, err
		}
		key, err := ceremony.Unwrap(plan.transport, transport[0], plan.key, b)
		if err != nil {
			return keys, fmt.Errorf("%s in %s: %w", plan.slots[i], file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// combineAll asks every person for the components of all keys, one person after
// the other.
func (p *program) combineAll(c *cli.Context, plan ceremonyPlan, t hsm.KeyType, names []string) (keys []secret.Secret, err error) {
	shares := make([][]secret.Secret, len(names)) // by key, then person
	defer func() {
		for _, s := range shares {
			wipeAll(s)
		}
	}()
	for person := range plan.people {
		var parts []secret.Secret
		if len(plan.files) > 0 {
			parts, err = readComponents(plan.files[person], t, len(names))
		} else {
			parts, err = p.typeComponents(c, person+1, plan.people, t, names)
		}
		for i, part := range parts {
			shares[i] = append(shares[i], part)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, s := range shares {
		key, err := ceremony.Combine(t, s...)
		if err != nil {
			return keys, fmt.Errorf("%s: %w", names[i], err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// typeComponents asks one person, again where the check value does not fit.
func (p *program) typeComponents(c *cli.Context, person, people int, t hsm.KeyType, names []string) ([]secret.Secret, error) {
	var parts []secret.Secret
	for _, name := range names {
		part, err := p.typeComponent(c, fmt.Sprintf("Component %d of %d of %s", person, people, name), t)
		if err != nil {
			return parts, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (p *program) typeComponent(c *cli.Context, what string, t hsm.KeyType) (secret.Secret, error) {
	for {
		digits, err := p.askSecret(c.Context, fmt.Sprintf("%s (%d hexadecimal digits)", what, 2*t.Size()))
		if err != nil {
			return secret.Secret{}, err
		}
		kcv, err := p.ask("Its check value", "")
		if err != nil {
			digits.Wipe()
			return secret.Secret{}, err
		}
		text := secret.New(append(digits.Clone().Bytes(), kcv...))
		part, err := ceremony.ParseComponent(text, t)
		digits.Wipe()
		text.Wipe()
		if err == nil {
			return part, nil
		}
		fmt.Fprintf(p.err, "That does not do: %v. Type it again.\n", err)
	}
}

// readComponents reads one person's file: one line for each key.
func readComponents(file string, t hsm.KeyType, keys int) ([]secret.Secret, error) {
	b, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	lines := []string{string(b)}
	if keys > 1 {
		lines = strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	}
	if len(lines) != keys {
		return nil, fmt.Errorf("the file %s has %d lines, want one for each of %d keys", file, len(lines), keys)
	}
	var parts []secret.Secret
	for i, line := range lines {
		part, err := ceremony.ParseComponent(secret.New([]byte(line)), t)
		if err != nil {
			return parts, fmt.Errorf("component %d in %s: %w", i+1, file, err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// readSmall reads a file of at most maxSecretFile bytes.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("reading a key: %s has more than %d bytes", file, maxSecretFile)
	}
	return b, nil
}

// agree shows the keys' check values and has them confirmed, or compares them with
// what was said before.
func (p *program) agree(plan ceremonyPlan, keys []secret.Secret) ([]string, error) {
	var kcvs []string
	for i, key := range keys {
		kcv, err := ceremony.CheckValue(plan.key, key)
		if err != nil {
			return nil, err
		}
		kcvs = append(kcvs, kcv)
		fmt.Fprintf(p.err, "Check value of %s: %s\n", plan.slots[i], kcv)
		if len(plan.kcvs) == 0 {
			continue
		}
		if err := ceremony.Check(plan.key, key, plan.kcvs[i]); err != nil {
			return nil, fmt.Errorf("%s, check value %s: %w", plan.slots[i], plan.kcvs[i], err)
		}
	}
	if len(plan.kcvs) > 0 {
		return kcvs, nil
	}
	yes, err := p.confirm("Do all who hold a component confirm it?")
	if err != nil {
		return nil, err
	}
	if !yes {
		return nil, errors.New("not confirmed; nothing was stored")
	}
	return kcvs, nil
}

func (p *program) sendKeys(c *cli.Context, r rest, in api.ImportKeySet, keys []secret.Secret) error {
	var digits []byte
	for _, k := range keys {
		digits = hex.AppendEncode(digits, k.Bytes())
	}
	defer func() { clear(digits) }()
	body, err := api.EncodeSecret(in, "keys", secret.New(digits))
	if err != nil {
		return err
	}
	defer clear(body)
	var l api.List[api.KeySet]
	if err := r.call(c.Context, request{method: http.MethodPost, path: "/keysets/import", body: body, out: &l}); err != nil {
		return err
	}
	return p.print(c, l, func(w io.Writer) {
		fmt.Fprintf(w, "Key set %s version %s is imported.\n", in.Name, in.Version)
		printKeySets(w, l.Entries)
		fmt.Fprintf(w, "No backup holds it yet: inkan keyset backup\nTry it: inkan keyset test %s %s\n", in.Name, in.Version)
	})
}
