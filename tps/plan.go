package tps

import (
	"context"
)

// StepName is the public name of a step: progress, log, audit, journal and tests
// use the same words. A step for one key carries the key's type after a space.
type StepName string

// Steps.
const (
	StepRegister     StepName = "register-token"
	StepAskPIN       StepName = "ask-pin"
	StepPrepare      StepName = "prepare-applet"
	StepChangeKeys   StepName = "change-keys"
	StepAppletKeys   StepName = "change-applet-keys"
	StepCardPIN      StepName = "ask-card-pin"
	StepForget       StepName = "forget-card-keys"
	StepSetPIN       StepName = "set-pin"
	StepKeep         StepName = "keep-certificate"
	StepGenerateKey  StepName = "generate-key"
	StepImportKey    StepName = "import-key"
	StepIssue        StepName = "issue-certificate"
	StepWrite        StepName = "write-contents"
	StepWriteIssuer  StepName = "write-issuer"
	StepFinish       StepName = "finish-card"
	StepRevoke       StepName = "revoke-certificates"
	StepRecord       StepName = "record-token"
	StepIdentify     StepName = "identify-card"
	StepAuthenticate StepName = "authenticate"
	StepRead         StepName = "read-card"
)

// of names a step for one key.
func (n StepName) of(keyType string) StepName { return n + " " + StepName(keyType) }

// Kind says what a step changes.
type Kind int

// Kinds of steps. Irreversible ones are journaled and audited before and after.
const (
	Harmless     Kind = iota
	Irreversible      // changes the card, or has a certificate issued
	Settling          // changes records only; needs no card, so the sweeper can repeat it
)

// Step is one step of a plan.
type Step struct {
	Name   StepName
	Kind   Kind
	Weight int               // share of the operation's time, for progress
	Task   string            // name of the task in status updates (tps-protocol §8)
	Event  string            // audit event of an irreversible step
	Fail   Status            // status if it fails without one of its own
	Intent map[string]string // journaled before the step acts
	Late   bool              // the step itself stores its intent, with what it finds out first
	Do     func(ctx context.Context, r *run) error
}

// Plan is what an operation will do, in order.
type Plan []Step

// Names lists the steps' names, as a dry run shows them.
func (p Plan) Names() []StepName {
	names := make([]StepName, len(p))
	for i, s := range p {
		names[i] = s.Name
	}
	return names
}

// planners are the operations there are.
var planners = map[Operation]func(Facts) (Plan, error){
	OpFormat:        planFormat,
	OpEnroll:        planEnroll,
	OpRenew:         planRenew,
	OpPINReset:      planPINReset,
	OpKeyChangeover: planKeyChangeover,
}

// MakePlan is the planner: pure, every refusal is here. The operation is one of
// the five.
func MakePlan(f Facts) (Plan, error) {
	if err := mayServe(f); err != nil {
		return nil, err
	}
	return planners[f.Asked.Operation](f)
}
