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

// labels are those of Dogtag's console (tps-operations.md §16.1).
var labels = map[State]string{
	Unformatted: "Unformatted",
	Formatted:   "Formatted (uninitialized)",
	Active:      "Active",
	Suspended:   "Suspended (temporarily lost)",
	Damaged:     "Physically damaged",
	PermLost:    "Permanently lost",
	Terminated:  "Terminated",
}

// Label is the state's name for people; the state itself for an unknown one.
func (s State) Label() string {
	if l, ok := labels[s]; ok {
		return l
	}
	return string(s)
}

// operatorTransitions is tokendb.allowedTransitions of Dogtag as shipped
// (tps-operations.md §16.2), without 3:4, which depends on the certificates.
var operatorTransitions = map[State][]State{
	Unformatted: {Damaged, PermLost},
	Formatted:   {Damaged, PermLost, Suspended, Terminated},
	Active:      {Damaged, PermLost, Suspended, Terminated},
	Suspended:   {Damaged, PermLost, Terminated},
	Damaged:     {PermLost},
	Terminated:  {Damaged, PermLost, Unformatted},
}

// OperatorChoices lists the states that an agent may give a token in state s
// without the card. A suspended token goes back to ACTIVE if it has certificate
// records, else to FORMATTED.
func (s State) OperatorChoices(certificates int) []State {
	next := slices.Clone(operatorTransitions[s])
	switch {
	case s == Suspended && certificates > 0:
		next = append(next, Active)
	case s == Suspended:
		next = append(next, Formatted)
	}
	return next
}

// stateReasons is tps-operations.md §12.2.
var stateReasons = map[State]Reason{
	PermLost:   KeyCompromise,
	Damaged:    Destroyed,
	Suspended:  OnHold,
	Terminated: ReasonEnd,
}

// Reason is the reason that a token gets with state s; none for a working one.
func (s State) Reason() Reason { return stateReasons[s] }

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
