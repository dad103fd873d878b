package tps

import (
	"slices"

	"inkan/tps/auth"
	"inkan/tps/token"
)

// mayServe refuses what no operation may do: a profile that does not serve it,
// a person who may not, a card that is lost or unknown.
func mayServe(f Facts) error {
	p := f.Profile
	if !slices.Contains(p.Operations, string(f.Asked.Operation)) {
		return refuse(StatusDisabledToken, "profile %s does not serve %s", p.Name, f.Asked.Operation)
	}
	if p.Auth.Role != "" && !f.Person.Is(p.Auth.Role) {
		return refuse(StatusLogin, "profile %s is for people with the role %s", p.Name, p.Auth.Role)
	}
	for _, check := range []func(Facts) error{mayWithState, mayWithUnknown, mayWithOwner, mayLeave, mayWithKeys, mayResume} {
		if err := check(f); err != nil {
			return err
		}
	}
	return nil
}

// lostStates are the states no operation leaves (§16, tps-protocol §15.11).
var lostStates = map[token.State]Status{
	token.Terminated: StatusTerminated,
	token.PermLost:   StatusLostToken,
	token.Damaged:    StatusDisabledToken,
	token.Suspended:  StatusDisabledToken,
}

func mayWithState(f Facts) error {
	if s, lost := lostStates[f.state()]; lost {
		return refuse(s, "the card's state is %s: an agent has to change it first", f.state())
	}
	return nil
}

func mayWithUnknown(f Facts) error {
	if f.Record != nil {
		return nil
	}
	if op := f.Asked.Operation; op == OpRenew || op == OpPINReset || op == OpKeyChangeover {
		return refuse(StatusUnknownToken, "the card is not known here; format or enroll it first")
	}
	return mayBring(f)
}

// mayBring says who may begin to use a card that was never formatted here.
func mayBring(f Facts) error {
	switch f.Profile.Card.AllowUnknown {
	case "anyone":
		return nil
	case "operator":
		if f.Person.Is(auth.Operator, auth.Agent) {
			return nil
		}
		return refuse(StatusUnknownToken, "the card is not known here; an operator has to format it first")
	}
	return refuse(StatusUnknownToken, "the card is not known here, and profile %s takes no unknown cards", f.Profile.Name)
}

func mayWithOwner(f Facts) error {
	if f.Record == nil || f.Record.UserID == "" || f.Record.UserID == f.Person.ID {
		return nil
	}
	op := f.Asked.Operation
	finishes := (op == OpEnroll || op == OpRenew) && f.Open != nil && f.Open.UserID == f.Record.UserID // for the owner
	if (op == OpFormat || op == OpKeyChangeover || finishes) && f.Person.Is(auth.Operator, auth.Agent) {
		return nil
	}
	return refuse(StatusNotOwner, "the card belongs to somebody else")
}

// mayWithKeys refuses a card whose keys the profile does not take.
func mayWithKeys(f Facts) error {
	if f.Card.Unmanaged {
		return mayWithOwn(f)
	}
	c, k := f.Profile.Card, f.Card.Proved
	if k == nil {
		return refuse(StatusSecureChannel, "the card has not proved itself")
	}
	if c.CUIDIsKDD && f.Card.CUID != [10]byte(k.KDD) {
		return refuse(StatusSecureChannel, "the card's CUID is not its key diversification data")
	}
	if v := uint8(k.KeyVersion); v < c.KeyVersionMin || v > c.KeyVersionMax {
		return refuse(StatusSecureChannel, "key version %s is outside %02X to %02X", k.KeyVersion, c.KeyVersionMin, c.KeyVersionMax)
	}
	return nil
}

// mayWithOwn refuses a card without card manager whose applet has proved no keys,
// unless it is new here and about to be emptied, or does so by its PIN.
func mayWithOwn(f Facts) error {
	op := f.Asked.Operation
	if !f.Card.Own.IsZero() || f.takesOver() || f.state() == token.Unformatted && (op == OpFormat || op == OpEnroll) {
		return nil
	}
	return refuse(StatusSecureChannel, "the card has not proved itself: its applet has keys that are not known here")
}

// mayUseOwn refuses an applet whose own keys are not known: nothing can be changed in
// it, it can only be prepared anew.
func mayUseOwn(f Facts) error {
	if _, ok := f.Family.(KeyChanger); !ok || !f.Contents.Present || !f.Card.Own.IsZero() || f.takesOver() {
		return nil
	}
	if f.Contents.Behind == BehindPIN {
		return refuse(StatusSecureChannel, "the card keeps its applet's own keys behind its PIN, and they are not known here; with the PIN they can be changed: inkan card rekey")
	}
	if f.Contents.Behind == MaybeBehindPIN {
		return refuse(StatusSecureChannel, "the card's applet has keys of its own that are not known here; if a program keeps them behind its PIN, inkan card rekey changes them, else the card has to be formatted")
	}
	return refuse(StatusSecureChannel, "the card's applet has keys of its own that are not known here; the card has to be formatted")
}

// mayResume refuses somebody else's unfinished operation.
func mayResume(f Facts) error {
	if f.Open == nil || f.Open.UserID == f.Person.ID || f.Person.Is(auth.Operator, auth.Agent) {
		return nil
	}
	return refuse(StatusNotOwner, "somebody else's unfinished operation is on this card; they or an operator can finish it")
}

// mayActivate refuses to make a card ACTIVE on keys that are not its own.
func mayActivate(f Facts, op Operation) error {
	for _, set := range f.finalSets(op) {
		if !f.Lab && !f.Bound(set) {
			return refuse(StatusSecureChannel,
				"the card has keys that everybody knows (key set %s); give it its own first: inkan card rekey, or a profile with [keys] version and change_on = [\"enroll\"]", set)
		}
	}
	return nil
}
