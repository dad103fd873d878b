package tps

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"inkan/tps/token"
)

// Preview is what an operation would do, or why it would be refused. Texts in it are at
// most 160 bytes long, that of a refusal 512, and lists have at most 24 entries, so that it
// fits a message of the client protocol.
type Preview struct {
	Operation Operation         `json:"operation"` // the one that would be done: an enrollment may become a renewal
	Card      string            `json:"card"`      // CUID
	Profile   token.ProfileName `json:"profile"`
	Revision  int               `json:"revision"`
	// Open is the unfinished operation on the card; nil where there is none.
	Open *PreviewOpen `json:"unfinished,omitempty"`
	// Steps are those of the operation. There are none where Open is finished first, as
	// they depend on what the card then is, or where finishing it is all.
	Steps []PreviewStep `json:"steps,omitempty"`
	// Asks is what the person is asked for behind the login.
	Asks []string `json:"asks,omitempty"`
	// Lost goes from the card with its applet, Replaced gets a successor there.
	Lost     []string `json:"lost,omitempty"`
	Replaced []string `json:"replaced,omitempty"`
	// Certificates are those that change their state.
	Certificates []PreviewCertificate `json:"certificates,omitempty"`
	Before       PreviewRecord        `json:"before"`
	After        PreviewRecord        `json:"after"`
	// Refusal is the planner's; nil where the operation would be done.
	Refusal *PreviewRefusal `json:"refusal,omitempty"`
}

// PreviewOpen is an unfinished operation and what becomes of it.
type PreviewOpen struct {
	Operation Operation    `json:"operation"`
	User      token.UserID `json:"user"` // who began it
	Started   time.Time    `json:"started"`
	Fate      string       `json:"fate"` // one of the Fate constants
	// Steps finish it, where that comes before the operation asked for.
	Steps []PreviewStep `json:"steps,omitempty"`
}

// Fates of an unfinished operation.
const (
	FateContinued  = "continued"      // it is the one asked for
	FateFinished   = "finished first" // with its card
	FateRecorded   = "recorded first" // its card is done, its records are written
	FateRolledBack = "rolled back first"
)

// PreviewStep is a step of a plan.
type PreviewStep struct {
	Name         StepName `json:"name"`             // in log, audit and journal
	Task         string   `json:"task"`             // in status updates
	Detail       string   `json:"detail,omitempty"` // what from what, or the algorithm
	Irreversible bool     `json:"irreversible"`
}

// PreviewCertificate is a certificate that changes its state.
type PreviewCertificate struct {
	Serial  string          `json:"serial"`
	Key     string          `json:"key"` // type, as the profile names it
	Subject string          `json:"subject"`
	Until   time.Time       `json:"until"`
	Before  token.CertState `json:"before"`
	After   token.CertState `json:"after"`
}

// PreviewRecord is what the card's record says; zero where there is none.
type PreviewRecord struct {
	State token.State  `json:"state,omitempty"`
	User  token.UserID `json:"user,omitempty"`
}

// PreviewRefusal is why the planner refuses.
type PreviewRefusal struct {
	Status Status `json:"status"`
	Text   string `json:"text"`
}

// Bounds of a Preview.
const (
	maxPreviewText    = 160
	maxPreviewRefusal = 512
	maxPreviewList    = 24
)

// short is a text that steers no terminal.
func short(text string) string { return shortened(text, maxPreviewText) }

func shortened(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	cut := limit - len("…")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// shortList is a list of short texts; more than a preview has are left out with a word.
func shortList(texts []string) (out []string) {
	for i, t := range texts {
		if i == maxPreviewList-1 && len(texts) > maxPreviewList {
			return append(out, "and more")
		}
		out = append(out, short(t))
	}
	return out
}
