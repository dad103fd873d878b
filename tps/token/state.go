package token

import (
	"fmt"
	"slices"
)

// State is the life cycle state of a token, named as Dogtag names it.
type State string

// Token states. The zero value is no state.
const (
	Unformatted State = "UNFORMATTED"
	Formatted   State = "FORMATTED"
	Active      State = "ACTIVE"
	Suspended   State = "SUSPENDED"
	Damaged     State = "DAMAGED"
	PermLost    State = "PERM_LOST"
	Terminated  State = "TERMINATED"
)

// States lists all states.
var States = []State{Unformatted, Formatted, Active, Suspended, Damaged, PermLost, Terminated}

// ParseState accepts a state's name.
func ParseState(s string) (State, error) {
	if slices.Contains(States, State(s)) {
		return State(s), nil
	}
	return "", fmt.Errorf("unknown token state %q", s)
}

// Reason says why a token is lost, damaged or suspended.
type Reason string

// Reasons.
const (
	NoReason      Reason = ""
	KeyCompromise Reason = "keyCompromise"
	Destroyed     Reason = "destroyed"
	OnHold        Reason = "onHold"
	ReasonEnd     Reason = "terminated"
)

// operationTransitions is tps.operations.allowedTransitions of Dogtag:
// 0:0,0:4,4:4,4:0,7:0.
var operationTransitions = map[State][]State{
	Unformatted: {Formatted},
	Formatted:   {Formatted, Active},
	Active:      {Active, Formatted},
}

// MayBecome reports whether an operation on the card may take a token from s to
// next. The zero state (no record) may become what Unformatted may.
func (s State) MayBecome(next State) bool {
	if s == "" {
		s = Unformatted
	}
	return slices.Contains(operationTransitions[s], next)
}
