package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel/keyset"
)

// KeyChange puts a complete key set onto the card manager.
type KeyChange struct {
	Keys    Keys
	Version gp.KeyVersion // 01 to 7F
	Replace gp.KeyVersion // set that is replaced; 00: one more set. FF: the factory set
	// Lock demands what keeps a card from being lost: check values with all keys,
	// and keys that are not published.
	Lock bool
}

// Check refuses a change that the card or its owner would regret, and returns the
// check values of the new keys. Nothing is sent that changes the card.
func (m *Manager) Check(ctx context.Context, c KeyChange) ([3]gp.KCV, error) {
	kcvs, err := c.Keys.kcvs(keyType(m.Info().Protocol), c.Lock)
	switch {
	case err != nil:
		return kcvs, err
	case c.Version < 1 || c.Version > 0x7F:
		return kcvs, fmt.Errorf("key version %v: want 01 to 7F", c.Version)
	case c.Lock && c.Keys.factory():
		return kcvs, errors.New("everybody knows these keys: they lock nothing")
	case keyType(m.Info().Protocol) != keyset.AES && c.Keys[enc].Value.Len() != 16:
		return kcvs, fmt.Errorf("an %v card has keys of 16 bytes, not %d", m.Info().Protocol, c.Keys[enc].Value.Len())
	}
	info, err := gp.ReadKeyInfo(ctx, m.inner)
	if err != nil { // the card does not tell: its answer to PUT KEY will
		if lost(err) {
			return kcvs, err
		}
		return kcvs, nil
	}
	versions := gp.KeyVersions(info)
	if c.Replace != c.Version && slices.Contains(versions, c.Version) {
		return kcvs, fmt.Errorf("the card has a key set of version %v already", c.Version)
	}
	if c.Replace != 0 && !slices.Contains(versions, c.Replace) {
		return kcvs, fmt.Errorf("the card has no key set of version %v to replace", c.Replace)
	}
	return kcvs, nil
}

// Apply sends the keys, compares the check values that the card answers, and opens
// a channel under them: that alone proves that the card can be opened again. The
// Manager goes on with that channel.
func (m *Manager) Apply(ctx context.Context, c KeyChange) error {
	cmd, kcvs, err := m.putKey(c)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // from here on to the proof, without a stop
	answer, err := apdu.Run(ctx, m.inner, cmd)
	if err != nil {
		return fmt.Errorf("putting keys of version %v: %w", c.Version, err)
	}
	a, err := gp.ParsePutKeyAnswer(answer)
	if err == nil {
		err = a.Check(c.Version, kcvs[:])
	}
	if err != nil {
		return fmt.Errorf("the card took the keys, but answered wrongly; keep the old and the new ones: %w", err)
	}
	if err := m.reopen(ctx, c); err != nil || c.Replace == 0 || c.Replace == c.Version {
		return err
	}
	return m.drop(ctx, c.Replace)
}

// drop deletes a key set that the card has kept although another replaced it, as
// some do with their factory keys: whoever knows those still opened it.
func (m *Manager) drop(ctx context.Context, v gp.KeyVersion) error {
	info, err := gp.ReadKeyInfo(ctx, m.inner)
	if lost(err) {
		return fmt.Errorf("the card took the keys; whether those of version %v are gone is not known: %w", v, err)
	}
	if !slices.Contains(gp.KeyVersions(info), v) {
		return nil
	}
	cmd, err := gp.DeleteKeySetCommand(m.dialect(), v)
	if err == nil {
		_, err = apdu.Run(ctx, m.inner, cmd)
	}
	if err != nil {
		return fmt.Errorf("the card took the keys, but keeps those of version %v too and is open to whoever knows them: %w", v, err)
	}
	return nil
}

// putKey is the command. Its data are encrypted under the DEK of the open channel.
func (m *Manager) putKey(c KeyChange) (apdu.Command, [3]gp.KCV, error) {
	encrypt, err := m.cfg.Keys.encrypt(m.Info())
	if err != nil {
		return apdu.Command{}, [3]gp.KCV{}, err
	}
	set := keyset.Set{Type: keyType(m.Info().Protocol), ENC: c.Keys[enc].Value, MAC: c.Keys[mac].Value, DEK: c.Keys[dek].Value}
	data, kcvs, err := keyset.Build(c.Version, set, encrypt)
	if err != nil {
		return apdu.Command{}, kcvs, err
	}
	cmd, err := gp.PutKeyCommand(m.dialect(), c.Replace, data)
	return cmd, kcvs, err
}

// reopen opens a channel under the new keys.
func (m *Manager) reopen(ctx context.Context, c KeyChange) error {
	m.inner.Close()
	if _, err := gp.Select(ctx, m.conn, m.AID); err != nil {
		return fmt.Errorf("the card took the keys, but does not answer any more; keep the old and the new ones: %w", err)
	}
	s, err := m.channel(ctx, c.Keys, c.Version)
	if err != nil {
		return fmt.Errorf("the card took the keys, but does not open under them; keep the old and the new ones: %w", err)
	}
	m.inner, m.cfg.Keys, m.cfg.Version = s, c.Keys, c.Version
	return nil
}
