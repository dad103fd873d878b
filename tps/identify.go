package tps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// identify learns which card it is, by plain commands only: card manager, CPLC
// (CUID), card recognition data (protocol), key information (versions). A card without
// card manager, or whose manager does not tell, is asked by the families. See
// tps-operations §2.1 and §2.3.
func (r *run) identify(ctx context.Context) error {
	r.conn = apdu.NewConn(r.cl)
	r.card.ATR = r.req.ATR
	d, err := apdu.ReadAhead(ctx, r.conn, identification)
	if err != nil {
		return within(StatusNoCardManager, StepIdentify, err)
	}
	if err := r.selectManager(ctx, d); err != nil {
		r.card.Unmanaged = StatusOf(err) == StatusNoCardManager && isStatus(err)
		if !r.card.Unmanaged {
			return err
		}
		return r.identifyByApplet(ctx, err)
	}
	cplc, err := gp.ReadCPLC(ctx, d)
	if err != nil && !isStatus(err) {
		return within(StatusSecureChannel, StepIdentify, fmt.Errorf("reading the card's CPLC: %w", err))
	}
	missing := err
	if err := r.readPlatform(ctx, d); err != nil {
		return within(StatusSecureChannel, StepIdentify, err)
	}
	if missing != nil {
		return r.identifyByApplet(ctx, refuse(StatusSecureChannel, "the card has no CPLC, so nothing tells it from another: %w", missing))
	}
	return r.is(Identity{CUID: cplc.CUID(), MSN: cplc.MSN().String(), Simulated: cplc.Simulated()})
}

// is notes who the card says it is.
func (r *run) is(id Identity) error {
	r.card.CUID, r.card.MSN = id.CUID, id.MSN
	if id.Simulated && !r.e.AllowSimulator {
		return refuse(StatusUnknownToken, "this is a software card, and [tps] allow_simulator is not set")
	}
	return nil
}

// identifyByApplet asks the families' applets who the card is; none is where no card
// has one that tells.
func (r *run) identifyByApplet(ctx context.Context, none error) error {
	for _, f := range r.e.Families {
		i, ok := f.(Identifier)
		if !ok {
			continue
		}
		id, ok, err := i.Identify(ctx, r.conn)
		switch {
		case err != nil && isStatus(err), err == nil && !ok:
			continue
		case err != nil:
			return within(StatusSecureChannel, StepIdentify, fmt.Errorf("asking the applet who the card is: %w", err))
		}
		return r.is(id)
	}
	return none
}

// identification is what identify asks a card whose default application is its
// manager, in this order.
var identification = []apdu.Entry{
	{Command: gp.SelectCommand(apdu.AID{})},
	{Command: gp.GetDataCommand(gp.TagCPLC), Mode: apdu.Anyway},
	{Command: gp.GetDataCommand(gp.TagRecognition), Mode: apdu.Anyway},
	{Command: gp.GetDataCommand(gp.TagKeyInfo), Mode: apdu.Anyway},
}

// selectManager selects the card manager: the default application if it is one
// of the configured managers, else the first configured one the card has.
func (r *run) selectManager(ctx context.Context, d apdu.Doer) error {
	fci, err := gp.Select(ctx, d, apdu.AID{})
	if err == nil && r.isManager(fci.AID) {
		r.card.Manager = fci.AID
		return nil
	}
	for _, aid := range r.e.Managers {
		switch _, err = gp.Select(ctx, d, aid); {
		case err == nil:
			r.card.Manager = aid
			return nil
		case !isStatus(err):
			return within(StatusNoCardManager, StepIdentify, err)
		}
	}
	return refuse(StatusNoCardManager, "no card manager that is configured can be selected: %w", err)
}

// isManager compares by prefix either way: a card may show its AID shortened.
func (r *run) isManager(aid apdu.AID) bool {
	return aid.Len() > 0 && slices.ContainsFunc(r.e.Managers, func(m apdu.AID) bool { return aid.HasPrefix(m) })
}

// isStatus tells a card that refuses from a card that is not there.
func isStatus(err error) bool {
	var sw apdu.StatusWord
	return errors.As(err, &sw)
}

// noObject tells "there is no such object" from a card that fails to give it.
func noObject(err error) bool {
	return errors.Is(err, apdu.SWReferencedNotFound) || errors.Is(err, apdu.SWIncorrectP1P2) ||
		errors.Is(err, apdu.SWFileNotFound) || errors.Is(err, apdu.SWInsNotSupported)
}

// readPlatform reads protocol, option and key versions. Cards that have no card
// recognition data, or answer something else, are taken for SCP01 or what their
// INITIALIZE UPDATE says; one that fails to give it is not (DEF-08).
func (r *run) readPlatform(ctx context.Context, d apdu.Doer) error {
	data, err := gp.GetData(ctx, d, gp.TagRecognition)
	if err != nil && !noObject(err) {
		return fmt.Errorf("reading the card recognition data: %w", err)
	}
	if rec, perr := gp.ParseRecognition(data); err == nil && perr == nil {
		r.card.Protocol, r.card.Option = choose(rec)
	}
	r.card.Versions, err = readVersions(ctx, d)
	return err
}

// readVersions reads the key versions that a card shows. A card that refuses, or
// answers something else (Dogtag's soft token: its CPLC), shows none.
func readVersions(ctx context.Context, d apdu.Doer) ([]KeySetInfo, error) {
	data, err := gp.GetData(ctx, d, gp.TagKeyInfo)
	if err != nil && !isStatus(err) {
		return nil, fmt.Errorf("reading the key information: %w", err)
	}
	keys, perr := gp.ParseKeyInfo(data)
	if err != nil || perr != nil {
		return nil, nil
	}
	return versionsIn(keys), nil
}

// versionsIn lists the versions of a key information template.
func versionsIn(keys []gp.KeyInfoEntry) (vs []KeySetInfo) {
	for _, v := range gp.KeyVersions(keys) {
		i := slices.IndexFunc(keys, func(k gp.KeyInfoEntry) bool { return k.KVN == v })
		vs = append(vs, KeySetInfo{Version: v, Type: byte(keys[i].Type), Length: keys[i].Length})
	}
	return vs
}

// choose takes the first protocol of the card that this side speaks.
func choose(rec gp.Recognition) (securechannel.Protocol, securechannel.Option) {
	for _, s := range rec.SCPs {
		if p := securechannel.Protocol(s.Protocol); p >= securechannel.SCP01 && p <= securechannel.SCP03 && s.Option <= 0xFF {
			return p, securechannel.Option(s.Option)
		}
	}
	return 0, 0
}

// resolve chooses the profile and its family, and the keys where a mapping says so.
func (r *run) resolve(ctx context.Context) error {
	req := profile.Request{
		Operation: string(r.req.Operation), Required: r.req.Profile, Default: r.e.DefaultProfile, Versions: r.appletVersions,
		Seen: profile.Seen{
			TokenType: r.req.TokenType, KeySet: r.req.KeySet, ATR: r.card.ATR, CUID: r.card.CUID, KeySize: r.card.keySize(),
		},
	}
	if r.card.Unmanaged {
		req.Default = r.e.UnmanagedProfile
	}
	if req.KeepsContent() {
		req.Own = r.ownProfile(ctx)
	}
	c, err := profile.Choose(ctx, r.e.Profiles, r.e.Mappings, req)
	if err != nil {
		return profileError(err)
	}
	r.target = c.Keys
	return r.take(c.Profile)
}

// appletVersions asks the families in turn for the versions of their applet; a
// card without one has 0.0 (§15.2).
func (r *run) appletVersions(ctx context.Context) (profile.AppletVersions, error) {
	for _, f := range r.e.Families {
		d, ok := f.(Describer)
		if !ok {
			continue
		}
		v, present, err := d.Versions(ctx, r.conn)
		if err != nil || present {
			return v, err
		}
	}
	return profile.AppletVersions{}, nil
}

// ownProfile is the profile that the card was enrolled with.
func (r *run) ownProfile(ctx context.Context) token.ProfileName {
	t, err := r.e.Stores.Tokens.Token(ctx, r.card.CUID)
	if err != nil { // the facts are gathered, and refused, after the login
		return ""
	}
	return t.Profile
}

func (r *run) take(p profile.Profile) error {
	f, ok := r.e.families[FamilyName(p.Family)]
	if !ok {
		return refuse(StatusMisconfiguration, "profile %s names the applet family %q, which this node does not have", p.Name, p.Family)
	}
	p, err := withIssuer(r.target.Apply(p), r.card)
	r.profile, r.family = p, f
	return err
}

func profileError(err error) error {
	switch {
	case errors.Is(err, token.ErrUnavailable):
		return within(StatusDatabase, "resolve-profile", err)
	case errors.Is(err, profile.ErrUnknown), errors.Is(err, profile.ErrNoTarget):
		return within(StatusNoMapping, "resolve-profile", err)
	case errors.Is(err, profile.ErrDisabled), errors.Is(err, profile.ErrNotServed):
		return within(StatusDisabledToken, "resolve-profile", err)
	}
	return within(StatusMisconfiguration, "resolve-profile", err)
}
